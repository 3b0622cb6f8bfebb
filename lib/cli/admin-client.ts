import type { Endpoint } from '../api/endpoint.ts'
import type { AnswerAt, BodyAt, KnownPath } from '../api/paths.ts'
import type { Clock } from '../shared/clock.ts'
import { formatDuration } from '../shared/duration.ts'
import { messageOf } from '../shared/errors.ts'
import { CliFailure, type Exit, exits } from './cli-failure.ts'

interface AdminClientOptions {
  readonly url: string
  readonly token: () => string | null
  readonly clock: Clock
  /** Time limit of one request in milliseconds, from connecting to the last byte of the answer. */
  readonly timeoutMs: number
  /** Aborts running requests: the user pressed Ctrl-C. */
  readonly signal: AbortSignal
}

type Method = Endpoint['method']

interface Request<M extends Method, Path extends string> {
  readonly method: M
  /** Below `/admin/v1`. */
  readonly path: Path & KnownPath<M, Path>
  readonly body?: BodyAt<M, Path>
  readonly headers?: Readonly<Record<string, string>>
}

/** The client of the admin API. Every error becomes a CliFailure with its exit code. */
export class AdminClient {
  readonly #options: AdminClientOptions
  readonly #base: string

  /** @throws Failure (usage) when `url` cannot be the address of an admin listener. */
  constructor(options: AdminClientOptions) {
    this.#options = options
    this.#base = baseOf(options.url)
  }

  get<const Path extends string>(path: Path & KnownPath<'get', Path>): Promise<AnswerAt<'get', Path>> {
    return this.send<'get', Path>({ method: 'get', path })
  }

  /** The JSON document of the answer; null without one (204). */
  async send<M extends Method, const Path extends string>(
    request: Request<M, Path>,
  ): Promise<AnswerAt<M, Path>> {
    const { clock, timeoutMs, signal } = this.#options
    const deadline = new AbortController()
    const token = this.#options.token()
    const cancel = clock.after(timeoutMs, () => deadline.abort())
    try {
      const response = await this.#fetch(request, token, AbortSignal.any([signal, deadline.signal]))
      return answerOf(response.status, await response.text(), this.#base) as AnswerAt<M, Path>
    } catch (error) {
      if (error instanceof CliFailure || signal.aborted) throw error
      const reason = deadline.signal.aborted
        ? `no answer within ${formatDuration(timeoutMs)}`
        : causeOf(error)
      throw new CliFailure(
        exits.unavailable,
        `cannot reach ${this.#base} (${reason})`,
        'check that an instance runs there (llamero serve), or set --admin-url',
        { cause: error },
      )
    } finally {
      cancel()
    }
  }

  #fetch<M extends Method, Path extends string>(
    { method, path, body, headers }: Request<M, Path>,
    token: string | null,
    signal: AbortSignal,
  ): Promise<Response> {
    return fetch(`${this.#base}/admin/v1${path}`, {
      method: method.toUpperCase(),
      signal,
      // A redirect must not carry the token to another address.
      redirect: 'manual',
      body: body === undefined ? null : JSON.stringify(body),
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
    })
  }
}

function baseOf(text: string): string {
  const url = URL.parse(text)
  if (!url || !/^https?:$/.test(url.protocol))
    throw new CliFailure(
      exits.usage,
      `"${text}" is not the URL of an admin listener`,
      'write http://HOST:11400',
    )
  if (url.username || url.password)
    throw new CliFailure(
      exits.usage,
      'the admin URL must not contain credentials',
      'set LLAMERO_ADMIN_TOKEN instead',
    )
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

function answerOf(status: number, text: string, base: string): unknown {
  if (status === 204) return null
  const document = objectOf(text)
  if (document && status >= 200 && status < 300) return document
  const error = document?.['error'] as { message?: unknown; hint?: unknown } | undefined
  if (typeof error?.message !== 'string')
    throw new CliFailure(
      exits.failure,
      `${base} answered HTTP ${status} without a llamero document`,
      'is this the admin listener? see --admin-url',
    )
  const hint = typeof error.hint === 'string' ? error.hint : usualHint(status)
  throw new CliFailure(exitOf(status), error.message, hint)
}

function objectOf(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    return null // not JSON: the caller reports it
  }
}

const exitByStatus: Readonly<Record<number, Exit>> = {
  400: exits.invalid,
  401: exits.auth,
  403: exits.auth,
  404: exits.notFound,
  409: exits.conflict,
  422: exits.invalid,
  502: exits.unavailable,
  503: exits.unavailable,
  504: exits.unavailable,
}

function exitOf(status: number): Exit {
  return exitByStatus[status] ?? exits.failure
}

function usualHint(status: number): string | undefined {
  if (status !== 401 && status !== 403) return undefined
  return 'set LLAMERO_ADMIN_TOKEN, or run this as a user that can read the token file of the instance; if it was started with --state DIR, set LLAMERO_STATE=DIR'
}

/** Node's fetch hides the reason one level down. */
function causeOf(error: unknown): string {
  const cause: unknown = error instanceof Error && error.cause !== undefined ? error.cause : error
  return cause instanceof Error && 'code' in cause ? String(cause.code) : messageOf(cause)
}
