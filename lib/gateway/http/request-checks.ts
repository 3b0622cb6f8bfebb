import type { IncomingMessage } from 'node:http'
import { ProxyError } from '../../shared/errors.ts'
import type { Via } from '../../shared/net/via.ts'
import type { Exchange } from './exchange.ts'

const maxTargetBytes = 8192
/** Headers that must not be repeated: two readers could each take another value. */
const singular = ['host', 'x-api-key', 'authorization']
/** A port up to 65535; RFC 3986 allows an empty one. */
const port = String.raw`(?:[0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])`
const hostPattern = new RegExp(String.raw`^(?:[\w.-]+|\[[\da-f:.]+\])(?::${port}?)?$`, 'i')

/**
 * Refuses what Node's parser accepts and no correct client sends: unknown HTTP versions, a malformed Host, a repeated
 * Host or key, absolute or asterisk targets, upgrades, any Transfer-Encoding but `chunked`. The path that is checked
 * here is the path that is routed and forwarded (docs/reliability.md#front-door).
 *
 * @throws ProxyError with the reason.
 */
export function checkRequest({ request, path }: Exchange, via: Via): void {
  if (request.httpVersion !== '1.1' && request.httpVersion !== '1.0') throw new ProxyError('bad_version')
  const target = request.url ?? ''
  if (target.length > maxTargetBytes) throw new ProxyError('target_too_long')
  if (path === '*') throw new ProxyError('method_not_allowed', { path, allow: 'GET, HEAD, POST' })
  if (!path.startsWith('/'))
    throw new ProxyError('bad_request', { reason: 'the request target must be a path that begins with "/"' })
  checkHeaders(request, via)
}

function checkHeaders(request: IncomingMessage, via: Via): void {
  const { upgrade, 'transfer-encoding': encoding } = request.headers
  // An offer of HTTP/2 may be ignored. A websocket client would wait for a response to its upgrade.
  if (upgrade !== undefined && upgrade !== 'h2c')
    throw new ProxyError('bad_request', { reason: 'the Upgrade header is not supported; leave it out' })
  if (encoding !== undefined && (encoding !== 'chunked' || request.httpVersion === '1.0')) {
    throw new ProxyError('bad_request', { reason: 'Transfer-Encoding must be exactly "chunked"' })
  }
  checkCallerHeaders(request)
  if (request.headers.via !== undefined && via.isLoop(request.headers.via))
    throw new ProxyError('loop_detected')
}

/**
 * Refuses a malformed Host, and a repeated Host or key: rights depend on them, on both listeners.
 *
 * @throws ProxyError `bad_request`
 */
export function checkCallerHeaders({
  headers: { host },
  rawHeaders,
}: Pick<IncomingMessage, 'headers' | 'rawHeaders'>): void {
  const repeated = repeatedHeader(rawHeaders)
  if (repeated) throw new ProxyError('bad_request', { reason: `more than one ${repeated} header; send one` })
  // HTTP/1.0 needs no Host.
  if (host !== undefined && !hostPattern.test(host))
    throw new ProxyError('bad_request', { reason: 'the Host header must be a host with or without a port' })
}

function repeatedHeader(rawHeaders: readonly string[]): string | undefined {
  return singular.find((name) => {
    let count = 0
    for (let at = 0; at < rawHeaders.length; at += 2) {
      const text = rawHeaders[at] as string
      if (text.length === name.length && text.toLowerCase() === name) count++
    }
    return count > 1
  })
}
