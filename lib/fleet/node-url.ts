import { isIP } from 'node:net'
import { isLoopback } from '../shared/net/address.ts'
import { isRefusedHost } from '../shared/net/node-address.ts'

/** What is wrong with a node's URL, as a sentence for the operator; null when nothing is. */
export function nodeUrlFault(text: string): string | null {
  const url = URL.parse(text.includes('://') ? text : '')
  if (!url) return `"${withoutSecrets(text)}" is not a URL; write http://HOST:11434`
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    return `scheme "${url.protocol.slice(0, -1)}" is not http or https`
  if (url.username || url.password) return 'a URL must not contain credentials; put them into "headers"'
  if (url.search || url.hash || /[?#]/.test(text)) return 'a URL must have no query and no fragment'
  const api = /\/(api|v1)(\/|$)/.exec(url.pathname)?.[1]
  if (api) return `a URL must end before "/${api}": llamero adds the paths of the API itself`
  if (url.port === '0') return 'port 0 cannot be connected to'
  if (isRefusedHost(url.hostname))
    return `"${url.hostname}" is a link-local or metadata address, which no Ollama server has`
  return null
}

/** A text that was to be a URL, without what may be a password or token: others than its writer may read the fault. */
function withoutSecrets(text: string): string {
  return text.replace(/^(.*?\/\/)?.*@/s, '$1…@').replace(/[?#].*/s, '?…')
}

/** A URL without fault as it is kept: its origin, and the path under which a proxy has Ollama. */
export function nodeUrlOf(text: string): string {
  const { origin, pathname } = new URL(text)
  return origin + pathBefore(pathname)
}

/** What comes before the paths of Ollama's API: "" or "/ollama". */
export function nodePathOf(url: string): string {
  return pathBefore(new URL(url).pathname)
}

/** Equal for URLs that lead to the same server, however they are written. */
export function sameServerKey(url: string): string {
  const { protocol, hostname, port, pathname } = new URL(url)
  // One port speaks one of both schemes.
  const own = port || (protocol === 'https:' ? '443' : '80')
  return `${hostKey(hostname)}:${own}${pathBefore(pathname)}`
}

function pathBefore(pathname: string): string {
  return pathname.replace(/\/+$/, '')
}

function hostKey(hostname: string): string {
  const host = plainHost(hostname)
  const isOwn = isLoopback(host) || host.endsWith('.localhost')
  // Connections to "any address" go to this machine.
  return isOwn || host === '0.0.0.0' || host === '::' ? 'localhost' : host
}

/** The host of a URL in one spelling: without brackets and final dot, and an IPv4 address as one. */
export function plainHost(hostname: string): string {
  const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  return mappedAddress(host) ?? host
}

/** The IPv4 address in an IPv6 one, as URLs write it: `::ffff:7f00:1`. */
function mappedAddress(host: string): string | null {
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host) ?? []
  if (isIP(host) !== 6 || high === undefined || low === undefined) return null
  const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low, 16)]
  return [a >> 8, a & 255, b >> 8, b & 255].join('.')
}
