import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Config } from '../fleet/config.ts'
import type { Upstream } from './upstreams.ts'

/** One try at one node. */
export interface Order {
  readonly upstream: Upstream
  readonly method: string
  readonly path: string
  /** Built by us from an allow-list (see requestHeaders): nothing of the caller's travels unseen. */
  readonly headers: OutgoingHttpHeaders
  readonly body: Buffer
  readonly response: ServerResponse
  /** Sent with the answer, besides what is let through of the node's. */
  readonly responseHeaders: OutgoingHttpHeaders
  readonly timeouts: Config['timeouts']
  readonly signal: AbortSignal
  /** Called once, when the answer's head is here and before its first byte goes out. */
  readonly answered: (status: number, contentType: string) => void
}

/** The caller's headers a node may see; the rest, credentials above all, stay here. */
const forwarded: readonly string[] = ['accept', 'content-type', 'user-agent', 'traceparent', 'tracestate']

interface Framing {
  readonly caller: IncomingHttpHeaders
  /** What the operator wants sent to this node. */
  readonly node: Readonly<Record<string, string>>
  readonly host: string
  readonly bodyBytes: number
  readonly requestId: string
}

/** The headers of a forwarded request: allow-listed, re-framed by the body's true length, Host set to the node's. */
export function requestHeaders({ caller, node, host, bodyBytes, requestId }: Framing): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {}
  for (const name of forwarded) {
    const value = caller[name]
    if (value !== undefined) headers[name] = value
  }
  return { ...headers, ...node, host, 'content-length': bodyBytes, 'x-request-id': requestId }
}
