import type { IncomingHttpHeaders } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { hostname, networkInterfaces } from 'node:os'
import { isCrossOrigin } from './cors.ts'

const nearby = new BlockList()
for (const [network, prefix] of [
  ['127.0.0.0', 8],
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['0.0.0.0', 32],
] as const) {
  nearby.addSubnet(network, prefix, 'ipv4')
}
nearby.addAddress('::', 'ipv6')
nearby.addAddress('::1', 'ipv6')
nearby.addSubnet('fc00::', 7, 'ipv6')

/** Whether a server bound to loopback answers this Host header; else 403 with no body (ollama-api.md §2.9). */
export function isHostAllowed(header: string): boolean {
  const host = header
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  const family = isIP(host)
  if (family !== 0) return nearby.check(host, family === 4 ? 'ipv4' : 'ipv6') || isOwnAddress(host)
  return (
    host === '' ||
    host === 'localhost' ||
    host === hostname().toLowerCase() ||
    /\.(localhost|local|internal)$/.test(host)
  )
}

/**
 * Whether the page that sent these headers may call: from the node itself or one of OLLAMA_ORIGINS' defaults; else 403
 * with no body (ollama-api.md §2.9).
 */
export function isOriginAllowed(headers: IncomingHttpHeaders): boolean {
  const { origin = '' } = headers
  return (
    !isCrossOrigin(headers) ||
    /^https?:\/\/(localhost|127\.0\.0\.1|0\.0\.0\.0)(:.*)?$/.test(origin) ||
    /^(app|file|tauri|vscode-webview|vscode-file):\/\//.test(origin)
  )
}

function isOwnAddress(host: string): boolean {
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === host),
  )
}
