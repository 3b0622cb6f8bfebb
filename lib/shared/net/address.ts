import { BlockList, isIP, type Server } from 'node:net'

/** Where a listener is bound. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** Reads `host:port`, `:port` or `[::1]:port`. Returns null when it is none of these. */
export function parseAddress(text: string): Address | null {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]*):(\d{1,5})$/i.exec(text)
  const port = Number(match?.[2])
  if (!match || port > 65_535) return null
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '')
  // No host means this machine only, as for Ollama: 0.0.0.0 means every interface.
  return { host: host === '' ? '127.0.0.1' : host, port }
}

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || (isIP(host) === 4 ? host.startsWith('127.') : host === '::1')
}

/** Whether `text` is a range of addresses in CIDR notation. */
export function isRange(text: string): boolean {
  const [, address = '', bits] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? []
  const family = isIP(address)
  return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128)
}

/** Whether one of `ranges` (see `isRange`) covers an address; an IPv4 one also in its IPv6 form, as a dual-stack listener sees it. */
export function inRanges(ranges: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', bits] = range.split('/')
    list.addSubnet(address, Number(bits), isIP(address) === 4 ? 'ipv4' : 'ipv6')
  }
  return (address) => isIP(address) !== 0 && list.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')
}

/** The address as it is written in a URL. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * Connections that the kernel completes before the event loop accepts them. Node asks for 511, which a burst of new
 * connections fills while the event loop is busy: the kernel then resets callers. `somaxconn` caps it without an error.
 */
export const listenBacklog = 4096

/** Binds a server and resolves to the address it got. Rejects with Node's error: `EADDRINUSE`, `EACCES`, … */
export function bind(server: Server, { host, port }: Address): Promise<Address> {
  const { promise, resolve, reject } = Promise.withResolvers<Address>()
  server.once('error', reject)
  server.listen({ host, port, backlog: listenBacklog }, () => {
    server.off('error', reject)
    const bound = server.address()
    resolve({ host, port: typeof bound === 'object' && bound ? bound.port : port })
  })
  return promise
}
