import type { Timings } from '../../scheduler/events.ts'
import type { TokenUsage } from '../http/exchange.ts'

/** The fault of a failed attempt. */
export type UpstreamFault =
  | 'unreachable' // refused, no route, unknown host, TLS not acceptable
  | 'own-fault' // this process, not the node, is out of files, ports or memory
  | 'connect-timeout'
  | 'stale-socket' // the node closed a kept-alive socket before any byte came back
  | 'reset' // the connection broke before the response head
  | 'first-token-timeout'
  | 'answer-timeout' // an unstreamed response takes far longer than any before
  | 'node-down' // the node became unreachable before the response began
  | 'connection-lost' // the connection did not survive an outage of the network
  | 'ejected' // the node was ejected before the response began
  | 'frozen' // the node accepted connections and answered nothing
  | 'bad-response' // no HTTP, or an unacceptable head
  | 'broken-off' // the connection broke within the response
  | 'stalled' // no byte of the response for too long
  | 'truncated' // the response ended properly before its last line
  | 'error-line' // an error in the stream itself
  | 'request-timeout' // the whole request took too long

/** The node refused the request. Nothing was sent to the caller yet. */
export interface Refused {
  readonly kind: 'refused'
  readonly status: number
  readonly contentType: string
  readonly body: Buffer
  /** The pause that the node asked for, in milliseconds. */
  readonly retryAfterMs: number | null
}

export interface NodeFailed {
  readonly kind: 'node-failed'
  readonly fault: UpstreamFault
  /** Bytes of the response have reached the caller: no other node can answer any more. */
  readonly committed: boolean
  /** Tokens that reached the caller. */
  readonly tokens: TokenUsage
  readonly cause: Error
}

export type UpstreamFailure = Refused | NodeFailed

/** How an attempt ended. */
export type UpstreamOutcome =
  | {
      readonly kind: 'done'
      readonly tokens: TokenUsage
      /** Null when unknown. */
      readonly timings: Timings | null
    }
  | { readonly kind: 'client-gone'; readonly reason: string }
  | UpstreamFailure
