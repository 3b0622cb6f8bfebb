import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { Via } from '../../shared/net/via.ts'

interface Framing {
  readonly caller: IncomingHttpHeaders
  /** What the operator wants sent to this node. */
  readonly node: Readonly<Record<string, string>>
  readonly host: string
  /** Null where it is not known before it is sent. */
  readonly bodyBytes: number | null
  readonly requestId: string
  readonly via: Via
}

/** The caller's headers a node may see; the rest, credentials above all, stay here. */
const forwarded: readonly string[] = ['accept', 'content-type', 'user-agent', 'traceparent', 'tracestate']

/** The headers of a forwarded request: allow-listed, re-framed by the body's true length, Host set to the node's. */
export function requestHeaders({
  caller,
  node,
  host,
  bodyBytes,
  requestId,
  via,
}: Framing): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {}
  for (const name of forwarded) {
    const value = caller[name]
    if (value !== undefined) headers[name] = value
  }
  if (bodyBytes !== null) headers['content-length'] = bodyBytes
  Object.assign(headers, node)
  headers['host'] = host
  headers['x-request-id'] = requestId
  headers['via'] = via.after(caller.via)
  return headers
}
