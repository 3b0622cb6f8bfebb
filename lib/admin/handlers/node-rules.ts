import type { InstanceRecord } from '../../fleet/instance.ts'
import type { NodeSpec } from '../../fleet/node.ts'
import { plainHost } from '../../fleet/node-url.ts'
import { ProxyError } from '../../shared/errors.ts'
import { type Address, formatAddress, isLoopback, parseAddress } from '../../shared/net/address.ts'
import { isOwnHost } from '../../shared/net/hosts.ts'

/** A node without its headers: they may contain secrets. */
export function withoutHeaders({ headers: _, ...spec }: NodeSpec): Omit<NodeSpec, 'headers'> {
  return spec
}

/**
 * The headers of a node are meant for one server: a change of the URL must repeat or remove each of them.
 *
 * @param named the `headers` of the change: null removes all of them.
 * @throws ProxyError `invalid`
 */
export function checkHeadersStay(before: NodeSpec | null, after: NodeSpec, named: unknown): void {
  if (before === null || before.url === after.url || named === null) return
  const said = typeof named === 'object' ? Object.keys(named ?? {}) : []
  const silent = Object.keys(after.headers).filter((name) => !said.includes(name) && name in before.headers)
  if (silent.length === 0) return
  throw new ProxyError('invalid', {
    reason: `url: the headers of this node (${silent.join(', ')}) were set for ${before.url} and are not sent to ${after.url}: set them again in "headers", or remove them with "headers": null`,
  })
}

/** @throws ProxyError `invalid` for the URL of a listener of llamero. */
export function checkIsNoListener({ url }: NodeSpec, listeners: readonly Address[]): void {
  const { hostname, port, protocol } = new URL(url)
  const target = {
    host: plainHost(hostname),
    port: Number(port) || (protocol === 'https:' ? 443 : 80),
  }
  const own = listeners.find((listener) => isAt(target, listener))
  if (!own) return
  throw new ProxyError('invalid', {
    reason: `url: ${url} is llamero itself, which listens at ${formatAddress(own)}: a node must be an Ollama server`,
  })
}

/** The listeners of other instances by their records, without those on loopback or on every address. */
export function listenersOf(instances: readonly InstanceRecord[]): Address[] {
  return instances
    .flatMap(({ data, admin }) => [parseAddress(data), parseAddress(admin)])
    .filter((address) => address !== null)
    .filter(({ host }) => !isLoopback(host) && host !== '0.0.0.0' && host !== '::')
}

function isAt(target: Address, listener: Address): boolean {
  if (target.port !== listener.port) return false
  if (target.host === listener.host) return true
  if (listener.host === '0.0.0.0' || listener.host === '::') return isOwnHost(target.host)
  // A connection to "any address" goes to loopback; "localhost" may resolve to any loopback address.
  const isNamed = [target.host, listener.host].some(leadsToLoopback)
  return isNamed && [target.host, listener.host].every((host) => leadsToLoopback(host) || isLoopback(host))
}

function leadsToLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '0.0.0.0' || host === '::'
}
