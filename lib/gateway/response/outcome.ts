import type { Timings } from '../../scheduler/events.ts'
import type { Tokens } from '../http/exchange.ts'

/** What a node did wrong. */
export type UpstreamFault =
  | 'unreachable' // refused, no route, unknown host, TLS not acceptable
  | 'own-fault' // not the node's: this process is out of files, ports or memory
  | 'connect-timeout'
  | 'stale-socket' // a kept-alive socket was closed under us before any byte came back
  | 'reset' // the connection broke before the answer's head
  | 'first-token-timeout'
  | 'answer-timeout' // a whole answer takes far longer than any before, and may well come
  | 'node-down' // it cannot be reached any more, and had not begun to answer
  | 'connection-lost' // the connection did not live through an outage of the way: asked again, there too
  | 'ejected' // its breaker opened, or it answers nothing, and it had not begun to answer
  | 'bad-response' // no HTTP, or a status no answer may have
  | 'broken-off' // the connection broke within the answer
  | 'stalled' // no byte of the answer for too long
  | 'truncated' // a proper end, but not of what was asked for: the last line says so, or is missing
  | 'error-line' // an error in the stream itself
  | 'request-timeout' // the whole request took too long

/** The node said no, and nothing of it has been sent to the caller yet. */
export interface Refused {
  readonly kind: 'refused'
  readonly status: number
  readonly contentType: string
  readonly body: Buffer
  /** Milliseconds the node asked to be left alone. */
  readonly retryAfterMs: number | null
}

export interface NodeFailed {
  readonly kind: 'node-failed'
  readonly fault: UpstreamFault
  /** Bytes of the answer have reached the caller: nobody else can answer any more. */
  readonly committed: boolean
  /** Tokens that reached the caller. */
  readonly tokens: Tokens
  readonly cause: Error
}

export type UpstreamFailure = Refused | NodeFailed

/** How a try at a node ended. */
export type UpstreamOutcome =
  | {
      readonly kind: 'done'
      readonly tokens: Tokens
      /** Null where nothing can be told honestly. */
      readonly timings: Timings | null
    }
  | { readonly kind: 'client-gone'; readonly reason: string }
  | UpstreamFailure
