import { ProxyError } from '../shared/errors.ts'
import type { Exchange } from './exchange.ts'

const maxTargetBytes = 8192

/**
 * Refuses what Node's parser lets through and no honest client sends: HTTP/0.9 and invented versions, a second Host,
 * absolute or asterisk targets, any Transfer-Encoding but `chunked`. The path that is checked here is the path that is
 * routed and forwarded (sheet reliability-security.md C-A to C-C).
 *
 * @throws ProxyError with the reason.
 */
export function guard({ request, path }: Exchange): void {
  if (request.httpVersion !== '1.1' && request.httpVersion !== '1.0') throw new ProxyError('bad_version')
  const target = request.url ?? ''
  if (target.length > maxTargetBytes) throw new ProxyError('target_too_long')
  if (path === '*') throw new ProxyError('method_not_allowed', { path, allow: 'GET, HEAD, POST' })
  if (!path.startsWith('/'))
    throw new ProxyError('bad_request', { reason: 'the request target must be a path' })
  const { upgrade, 'transfer-encoding': encoding } = request.headers
  // An offer of HTTP/2 may be ignored; a websocket's client would wait for an answer that is none.
  if (upgrade !== undefined && upgrade !== 'h2c')
    throw new ProxyError('bad_request', { reason: 'nothing here can be upgraded to' })
  if (encoding !== undefined && (encoding !== 'chunked' || request.httpVersion === '1.0')) {
    throw new ProxyError('bad_request', { reason: 'Transfer-Encoding must be exactly "chunked"' })
  }
  if (hosts(request.rawHeaders) > 1)
    throw new ProxyError('bad_request', { reason: 'more than one Host header' })
}

function hosts(rawHeaders: readonly string[]): number {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string
    if (name.length === 4 && name.toLowerCase() === 'host') count++
  }
  return count
}
