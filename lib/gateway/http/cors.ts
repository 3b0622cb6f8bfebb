import type { OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import { matchesGlob } from '../../fleet/documents/glob.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from './exchange.ts'

/** Seconds for which a browser may keep the preflight response. */
const preflightAge = 12 * 60 * 60
const headerNames = /^[\w-]+(?:, ?[\w-]+)*$/

/**
 * Allows web pages of the configured origins to read responses. Pages of other origins are refused, as Ollama does
 * (docs/ollama.md#http): a page that cannot read responses could still use GPUs on a listener that needs no key.
 * Cookies are not allowed: the key is in a header. Nodes never see an origin.
 *
 * @returns whether the request was a preflight, which is answered now.
 * @throws ProxyError `foreign_origin`.
 */
export function answerCors({ request, response, trace, publicId }: Exchange, { cors }: Config): boolean {
  const { origin, host } = request.headers
  if (origin === undefined || isOwn(origin, host)) return false
  if (!isAllowed(origin, cors)) throw new ProxyError('foreign_origin')
  response.setHeader('access-control-allow-origin', origin)
  response.setHeader('vary', 'Origin')
  response.setHeader('access-control-expose-headers', '*')
  if (request.method !== 'OPTIONS' || !request.headers['access-control-request-method']) return false
  const wanted = request.headers['access-control-request-headers']
  const headers: OutgoingHttpHeaders = {
    'access-control-allow-methods': 'GET, HEAD, POST, DELETE',
    ...(wanted !== undefined && headerNames.test(wanted) && { 'access-control-allow-headers': wanted }),
    'access-control-max-age': String(preflightAge),
    'x-request-id': publicId,
  }
  response.writeHead(204, headers)
  response.end()
  trace.outcome = 'ok'
  return true
}

/** Whether the page was served from this address, through a proxy: then its requests are not cross-origin. */
function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && URL.parse(origin)?.host === host
}

/** Any page can have the origin `null`. */
function isAllowed(origin: string, { origins }: Config['cors']): boolean {
  return origin !== 'null' && origins.some((glob) => matchesGlob(glob, origin))
}
