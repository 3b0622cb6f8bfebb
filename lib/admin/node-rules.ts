import type { InstanceRecord } from '../fleet/instance.ts'
import type { NodeSpec } from '../fleet/node.ts'
import { plainHost } from '../fleet/node-url.ts'
import { ProxyError } from '../shared/errors.ts'
import { type Address, formatAddress, isLoopback, parseAddress } from '../shared/net/address.ts'
import { isOwnHost } from '../shared/net/hosts.ts'

/** A node as answers show it: its headers may hold secrets. */
export function withoutHeaders({ headers: _, ...spec }: NodeSpec): Omit<NodeSpec, 'headers'> {
  return spec
}

/**
 * A node's headers are meant for one server: a change of its URL must say what becomes of each.
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
    reason: `url: the headers of this node (${silent.join(', ')}) were given for ${before.url} and do not follow it to ${after.url}: give them again in "headers", or remove them with "headers": null`,
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

/** Where other instances listen, as far as their records tell: not where one listens at every address, or on loopback. */
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
  // Connections to "any address" go to loopback, and the name may lead to any address of it.
  const isNamed = [target.host, listener.host].some(leadsToLoopback)
  return isNamed && [target.host, listener.host].every((host) => leadsToLoopback(host) || isLoopback(host))
}

function leadsToLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '0.0.0.0' || host === '::'
}
