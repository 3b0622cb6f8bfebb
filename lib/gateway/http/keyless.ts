import type { IncomingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import { matchesGlob } from '../../fleet/documents/glob.ts'
import { ProxyError } from '../../shared/errors.ts'
import { hostOf, isLocalHost } from '../../shared/net/hosts.ts'

type Auth = Config['auth']

/**
 * Names of headers that proxies and content networks add: the standard ones, each that names a client's or an original
 * address, and those that one product puts before all of its own. A list of names alone is never complete.
 */
const proxyHeader = new RegExp(
  [
    'forward',
    '^via$|-via$',
    '(?:client|connecting|connection|real|remote|originating|user|src|source|socket)-?(?:ip(?:v6)?|addr|port)$',
    '^x-(?:original|rewrite|proxy)|^x-(?:url-)?scheme$|^front-end-https$',
    '^(?:x-)?(?:akamai|ali-cdn|amz-cf|appengine|arr|azure|bluecoat|cdn|cf|envoy|fastly|fly|incap|nf|nginx|ngrok|railway|squid|sucuri|tailscale|traefik|varnish)(?:-|$)',
  ].join('|'),
)

/**
 * The header that shows that a request came through a proxy, or null. The address of the connection is then that of
 * the proxy, and says nothing about the client. "_" counts as "-": some servers write one for the other.
 */
export function proxyHeaderOf(headers: IncomingHttpHeaders): string | null {
  for (const name in headers) if (proxyHeader.test(name.replaceAll('_', '-'))) return name
  return null
}

/** Whether the Host header names a host that a hostile web page cannot name: see `isLocalHost` and `auth.hosts`. */
export function isTrustedHost({ host = '' }: IncomingHttpHeaders, { hosts }: Auth): boolean {
  return isLocalHost(host) || hosts.some((glob) => matchesGlob(glob, hostOf(host)))
}

/**
 * A web page that rebinds its name to the address of llamero sends requests from the browser's machine, and its
 * origin looks like llamero's own. So a caller without a key must name a trusted host: always on a loopback listener,
 * elsewhere for requests from web pages to endpoints that need a right.
 *
 * @throws ProxyError `foreign_host`
 */
export function checkHost(
  headers: IncomingHttpHeaders,
  auth: Auth,
  door: { readonly loopback: boolean; readonly open: boolean },
): void {
  const mayBeRebound = door.loopback || (!door.open && isFromPage(headers))
  if (mayBeRebound && !isTrustedHost(headers, auth))
    throw new ProxyError('foreign_host', { host: (headers.host ?? '').slice(0, 200) })
}

/**
 * Browsers send `Origin` with every method but GET and HEAD. With those they send one of the other headers, unless
 * the page prevents it.
 */
function isFromPage(headers: IncomingHttpHeaders): boolean {
  return (
    headers.origin !== undefined || headers.referer !== undefined || headers['sec-fetch-site'] !== undefined
  )
}
