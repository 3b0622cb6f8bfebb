import type { OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import { matchesGlob } from '../../fleet/documents/glob.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from './exchange.ts'

/** Seconds for which a browser need not ask again. */
const preflightAge = 12 * 60 * 60
const headerNames = /^[\w-]+(?:, ?[\w-]+)*$/

/**
 * Gives the web pages of allowed origins leave to read the answer. Those of others are refused, as Ollama does
 * (docs/ollama.md#http): a page that cannot read answers could still set GPUs to work on a listener that asks for no key.
 * There is no leave to send cookies: the key is in a header, and no page has one by chance. Nodes never see an origin.
 *
 * @returns whether the request was a preflight of such a page, which is answered with this.
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

/** A page that came by this very address, through a proxy that serves it: its requests cross no border. */
function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && URL.parse(origin)?.host === host
}

/** `null` is the origin of every page that hides its own. */
function isAllowed(origin: string, { origins }: Config['cors']): boolean {
  return origin !== 'null' && origins.some((glob) => matchesGlob(glob, origin))
}
