import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Api, Dialect, Reason } from '../../fleet/request-spec.ts'
import type { Clock } from '../../shared/clock.ts'
import type { ProxyError } from '../../shared/errors.ts'
import type { Kind } from './find-endpoint.ts'

/** Tokens of a response as its last line counts them; without that, the number of its events. */
export interface TokenUsage {
  readonly input: number
  /** Tokens of `input` that were in the prompt cache; absent when the response does not tell. */
  readonly cached?: number
  readonly output: number
}

export const noTokens: TokenUsage = { input: 0, output: 0 }
const noneFailed: readonly string[] = []

/** The caller closed the connection. All work for its request ends. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

/** The result of a request; the `outcome` label of the metrics. */
export type RequestOutcome = 'ok' | 'client_cancelled' | 'upstream_error' | 'rejected' | 'timeout'

/** What is known of a request, for its log line and its metrics. */
export interface Trace {
  api: Api | Kind | 'none'
  /** Canonical name; empty until a model of the inventory was found. */
  model: string
  tenant: string
  /** Priority class; empty when the request does not wait for a slot. */
  class: string
  node: string
  reason: Reason | ''
  /** Id of the job that carries the request out; empty without one. */
  job: string
  attempts: number
  /** The attempts that failed before the last one: node and reason of each, for the log. */
  failed: readonly string[]
  queuedMs: number
  /** Milliseconds from the start to the first byte of the answer, or null. */
  firstByteMs: number | null
  /** Content type of the response; empty until a node has responded. */
  contentType: string
  /** Tokens read and written for this request, as far as they are known. */
  tokens: TokenUsage
  /** The node wrote its error into the stream. */
  errorIsInStream: boolean
  outcome: RequestOutcome
  /** The error, for the log. */
  error: unknown
}

/** One request and its response. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** The unique request id of llamero; log lines carry it. */
  readonly id: string
  /** The `x-request-id` of the response: the caller's own id when it is well-formed, else `id`. */
  readonly publicId: string
  readonly path: string
  readonly dialect: Dialect
  /** Monotonic milliseconds. */
  readonly startedAt: number
  /**
   * Aborts all work for this request: with a ClientGone when the connection closes before the response is out, with a
   * ProxyError, which the caller gets, when llamero ends it. The first reason counts.
   */
  readonly signal: AbortSignal
  readonly abort: (reason: ClientGone | ProxyError) => void
  /** The caller sent `Expect: 100-continue` and waits before it sends the body. */
  readonly expectsContinue: boolean
  readonly trace: Trace
  /** The body is sent on while it comes, and has its own time limit. */
  streamsBody: boolean
}

const wellFormedId = /^[A-Za-z0-9._-]{8,64}$/

export function openExchange(
  request: IncomingMessage,
  response: ServerResponse,
  clock: Clock,
  expectsContinue: boolean,
): Exchange {
  const ending = new AbortController()
  const id = randomUUID()
  const offered = request.headers['x-request-id']
  const path = (request.url ?? '').split('?', 1)[0] ?? ''
  return {
    request,
    response,
    id,
    publicId: typeof offered === 'string' && wellFormedId.test(offered) ? offered : id,
    path,
    dialect: dialectOf(path),
    startedAt: clock.now(),
    signal: ending.signal,
    abort: (reason) => ending.abort(reason),
    expectsContinue,
    streamsBody: false,
    trace: {
      api: 'none',
      model: '',
      tenant: '',
      class: '',
      node: '',
      reason: '',
      job: '',
      attempts: 0,
      failed: noneFailed,
      queuedMs: 0,
      firstByteMs: null,
      contentType: '',
      tokens: noTokens,
      errorIsInStream: false,
      outcome: 'rejected',
      error: undefined,
    },
  }
}

function dialectOf(path: string): Dialect {
  if (path.startsWith('/v1/messages')) return 'anthropic'
  return path.startsWith('/v1/') ? 'openai' : 'ollama'
}
