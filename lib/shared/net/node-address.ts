import { type LookupAddress, type LookupOptions, lookup } from 'node:dns'
import { BlockList, isIP } from 'node:net'

const refused = new BlockList()
refused.addSubnet('169.254.0.0', 16, 'ipv4')
refused.addSubnet('fe80::', 10, 'ipv6')
refused.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6') // 169.254.0.0/16 through NAT64 (RFC 6052)
// Metadata services outside link-local: AWS, Google, Alibaba, Azure, Oracle.
refused.addAddress('fd00:ec2::254', 'ipv6')
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
  return family !== 0 && refused.check(address, family === 4 ? 'ipv4' : 'ipv6')
}
