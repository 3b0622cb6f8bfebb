import type { IncomingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import { matchesGlob } from '../../fleet/documents/glob.ts'
import { ProxyError } from '../../shared/errors.ts'
import { hostOf, isLocalHost } from '../../shared/net/hosts.ts'

type Auth = Config['auth']

/** Headers that proxies and content networks add; `x-forwarded-*` counts too. */
const proxyHeaders: ReadonlySet<string> = new Set([
  'forwarded',
  'via',
  'x-forwarded',
  'forwarded-for',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-original-for',
  'x-original-forwarded-for',
  'x-remote-ip',
  'x-remote-addr',
  'proxy-client-ip',
  'wl-proxy-client-ip',
  'x-envoy-external-address',
  'cdn-loop', // RFC 8586
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'fastly-client-ip',
  'true-client-ip',
  'x-azure-clientip',
  'x-appengine-user-ip',
])

/**
 * The header that shows that a request came through a proxy, or null. The address of the connection is then that of
 * the proxy, and says nothing about the client.
 */
export function proxyHeaderOf(headers: IncomingHttpHeaders): string | null {
  for (const name in headers) if (proxyHeaders.has(name) || name.startsWith('x-forwarded-')) return name
  return null
}

/** Whether the Host header names a host that a hostile web page cannot name: see `isLocalHost` and `auth.hosts`. */
export function isTrustedHost({ host = '' }: IncomingHttpHeaders, { hosts }: Auth): boolean {
  return isLocalHost(host) || hosts.some((glob) => matchesGlob(glob, hostOf(host)))
}

/**
 * A web page that rebinds its name to the address of llamero sends requests from the browser's machine, and its
 * origin looks like llamero's own. So a caller without a key must name a trusted host: always on a loopback listener,
 * elsewhere for requests from web pages to routes that need a right.
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
