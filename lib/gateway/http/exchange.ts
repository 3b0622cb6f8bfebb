import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Api, Dialect, Reason } from '../../fleet/request-spec.ts'
import type { Clock } from '../../shared/clock.ts'
import type { ProxyError } from '../../shared/errors.ts'
import type { Kind } from './routes.ts'

// the whole request took too long

/** Tokens of an answer, as its last line counts them, else as many as there were events. */
export interface Tokens {
  readonly input: number
  /** Of `input`, those that were in the prompt cache; absent where the answer does not tell. */
  readonly cached?: number
  readonly output: number
}

export const noTokens: Tokens = { input: 0, output: 0 }

/** The caller closed the connection: nobody's fault, and the end of all work for this request. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

/** What came of a request; the `outcome` label of the metrics. */
export type RequestOutcome = 'ok' | 'client_cancelled' | 'upstream_error' | 'rejected' | 'timeout'

/** What is known of a request so far, for its one log line and its metrics. */
export interface Trace {
  api: Api | Kind | 'none'
  /** Canonical name; empty until a model of the inventory was found. */
  model: string
  tenant: string
  /** Priority class; empty when the request does not wait for a slot. */
  class: string
  node: string
  reason: Reason | ''
  /** The job that carries it out; empty where there is none. */
  job: string
  attempts: number
  queuedMs: number
  /** Milliseconds from the start to the first byte of the answer, or null. */
  firstByteMs: number | null
  /** Of the answer; empty until a node answered. */
  contentType: string
  /** Tokens read and written for the caller, as far as they are known. */
  tokens: Tokens
  /** The node wrote its error into the stream itself. */
  errorIsInStream: boolean
  outcome: RequestOutcome
  /** For the log: why it did not go well. */
  error: unknown
}

/** One request and its answer on their way through the pipeline. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Ours, unique; the log's key. */
  readonly id: string
  /** The `x-request-id` the caller sees: its own when it is well-formed, else ours. */
  readonly publicId: string
  readonly path: string
  readonly dialect: Dialect
  /** Monotonic milliseconds. */
  readonly startedAt: number
  /**
   * Aborts all work for this request: with a ClientGone when the connection closes before the answer is out, with a
   * ProxyError, which the caller is told, when we end it. The first reason stays.
   */
  readonly signal: AbortSignal
  readonly abort: (reason: ClientGone | ProxyError) => void
  /** The caller waits for "100 Continue" before it sends the body. */
  readonly expectsContinue: boolean
  readonly trace: Trace
  /** Its body is passed on while it comes, and has a limit of time of its own. */
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
