import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { Via } from '../../shared/net/via.ts'

interface Framing {
  readonly caller: IncomingHttpHeaders
  /** Headers that the operator configured for this node. */
  readonly node: Readonly<Record<string, string>>
  readonly host: string
  /** Null when it is not known before the body is sent. */
  readonly bodyBytes: number | null
  readonly requestId: string
  readonly via: Via
}

/** Headers of the caller that a node may see. Others, credentials above all, are not forwarded. */
const forwarded: readonly string[] = ['accept', 'content-type', 'user-agent', 'traceparent', 'tracestate']

/** The headers of a forwarded request: from an allow-list, with the true length of the body and the node's Host. */
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
