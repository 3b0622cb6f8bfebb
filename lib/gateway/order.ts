import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../fleet/config.ts'
import type { Fault } from './outcome.ts'
import type { AnswerHead, Delivery } from './to-caller.ts'
import type { Payload } from './upload.ts'
import type { Upstream } from './upstreams.ts'

/** How long a node may be silent before its answer begins, in milliseconds from the start of the attempt. */
export interface Patience {
  /** Longer than it should take. */
  readonly expectedMs: number
  /** The limit when nobody else could answer either. */
  readonly atMostMs: number
  /** Asked once, when it takes longer than expected: whether the request may be sent elsewhere. */
  readonly mayLeave: () => boolean
}

/** When an attempt must end, in monotonic milliseconds, and why. */
export interface Limit {
  readonly at: number
  readonly fault: Fault | 'impatient'
}

/** One try at one node. */
export interface Order {
  readonly upstream: Upstream
  readonly method: string
  readonly path: string
  /** Built by us from an allow-list (see requestHeaders): nothing of the caller's travels unseen. */
  readonly headers: OutgoingHttpHeaders
  readonly body: Payload
  readonly timeouts: Config['timeouts']
  readonly patience: Patience
  /** Monotonic milliseconds at which the whole request must be over. */
  readonly deadlineAt: number
  readonly signal: AbortSignal
  /** A kept-alive socket turned out to be closed: the request is sent once more, on a new one. */
  readonly resent: () => void
  /** Called once, when the answer's head is here: where its body goes. */
  readonly receive: (head: AnswerHead) => Delivery
}

/** The caller's headers a node may see; the rest, credentials above all, stay here. */
const forwarded: readonly string[] = ['accept', 'content-type', 'user-agent', 'traceparent', 'tracestate']

interface Framing {
  readonly caller: IncomingHttpHeaders
  /** What the operator wants sent to this node. */
  readonly node: Readonly<Record<string, string>>
  readonly host: string
  /** Null where it is not known before it is sent. */
  readonly bodyBytes: number | null
  readonly requestId: string
}

/** The headers of a forwarded request: allow-listed, re-framed by the body's true length, Host set to the node's. */
export function requestHeaders({ caller, node, host, bodyBytes, requestId }: Framing): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {}
  for (const name of forwarded) {
    const value = caller[name]
    if (value !== undefined) headers[name] = value
  }
  if (bodyBytes !== null) headers['content-length'] = bodyBytes
  Object.assign(headers, node)
  headers['host'] = host
  headers['x-request-id'] = requestId
  return headers
}
