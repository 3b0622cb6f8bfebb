import { type LookupAddress, type LookupOptions, lookup } from 'node:dns'
import { BlockList, isIP } from 'node:net'

const refused = new BlockList()
refused.addSubnet('169.254.0.0', 16, 'ipv4')
refused.addSubnet('fe80::', 10, 'ipv6')
// Metadata services outside link-local: AWS (its services for containers too), Scaleway, Google, Alibaba, Azure, Oracle.
refused.addSubnet('fd00:ec2::', 32, 'ipv6')
refused.addAddress('fd00:42::42', 'ipv6')
refused.addAddress('fd20:ce::254', 'ipv6')
refused.addAddress('100.100.100.200', 'ipv4')
refused.addAddress('168.63.129.16', 'ipv4')
refused.addAddress('192.0.0.192', 'ipv4')

const refusedNames: ReadonlySet<string> = new Set([
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'metadata.azure.internal',
  'metadata.tencentyun.com',
  'instance-data',
  'instance-data.ec2.internal',
])

/**
 * Whether a node must not have this host: link-local addresses, and the metadata services of clouds, which give the
 * machine's credentials to any program on it. Takes the host of a URL, which has one spelling for each address.
 */
export function isRefusedHost(hostname: string): boolean {
  const host = hostname
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.+$/, '')
  return refusedNames.has(host) || isRefusedAddress(host)
}

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | LookupAddress[],
  family?: number,
) => void

/** `dns.lookup` for connections to nodes: a name must not lead to a refused address. */
export function lookupNode(hostname: string, options: LookupOptions, callback: LookupCallback): void {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return callback(error, [])
    const allowed = addresses.filter(({ address }) => !isRefusedAddress(address))
    const [first] = allowed
    if (!first) return callback(new RefusedAddress(hostname), [])
    if (options.all) return callback(null, allowed)
    callback(null, first.address, first.family)
  })
}

/** The error for a name with refused addresses only. */
class RefusedAddress extends Error {
  readonly code = 'ERR_REFUSED_ADDRESS'

  constructor(hostname: string) {
    super(`${hostname} is a link-local or metadata address`)
  }
}

function isRefusedAddress(address: string): boolean {
  const family = isIP(address)
  if (family !== 6) return family === 4 && refused.check(address, 'ipv4')
  const inner = embeddedAddress(groupsOf(address))
  return refused.check(address, 'ipv6') || (inner !== null && refused.check(inner, 'ipv4'))
}

/**
 * The IPv4 address that packets to an IPv6 one reach, or null: mapped and compatible (RFC 4291), translated (RFC 2765),
 * through NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
 */
function embeddedAddress(groups: readonly number[]): string | null {
  const [first, second] = groups
  if (first === 0x2002) return dotted(groups.slice(1, 3))
  const isNat64 = first === 0x64 && second === 0xff9b
  const isBare = groups.slice(0, 6).every((group) => group === 0 || group === 0xffff)
  return isNat64 || isBare ? dotted(groups.slice(6)) : null
}

function dotted(groups: readonly number[]): string {
  return groups.flatMap((group) => [group >> 8, group & 255]).join('.')
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const hex = address.replace(/%.*$/, '').replace(/[\d.]+\.\d+$/, (inner) => {
    const [a = 0, b = 0, c = 0, d = 0] = inner.split('.').map(Number)
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  })
  const [before = [], behind = []] = hex
    .split('::')
    .map((part) => part.split(':').filter((each) => each !== ''))
  const zeros = new Array<string>(8 - before.length - behind.length).fill('0')
  return [...before, ...zeros, ...behind].map((group) => Number.parseInt(group, 16))
}
