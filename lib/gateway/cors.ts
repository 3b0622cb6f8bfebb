import type { OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../fleet/config.ts'
import { matchesGlob } from '../fleet/schema.ts'
import type { Exchange } from './exchange.ts'

/** Seconds for which a browser need not ask again. */
const preflightAge = 12 * 60 * 60
const headerNames = /^[\w-]+(?:, ?[\w-]+)*$/

/**
 * Gives the web pages of allowed origins leave to read the answer; to others nothing is said. There is no leave to send
 * cookies: the key is in a header, and no page has one by chance. Nodes never see an origin.
 *
 * @returns whether the request was a preflight of such a page, which is answered with this.
 */
export function answerCors({ request, response, trace, publicId }: Exchange, { cors }: Config): boolean {
  const { origin } = request.headers
  if (origin === undefined || !isAllowed(origin, cors)) return false
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

/** `null` is the origin of every page that hides its own. */
function isAllowed(origin: string, { origins }: Config['cors']): boolean {
  return origin !== 'null' && origins.some((glob) => matchesGlob(glob, origin))
}
