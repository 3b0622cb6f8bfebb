import { BlockList, isIP } from 'node:net'
import { hostname, networkInterfaces } from 'node:os'
import { isDigit } from '../json/json-bytes.ts'
import { isLoopback } from './address.ts'

const nearby = new BlockList()
nearby.addSubnet('127.0.0.0', 8, 'ipv4')
nearby.addSubnet('10.0.0.0', 8, 'ipv4')
nearby.addSubnet('172.16.0.0', 12, 'ipv4')
nearby.addSubnet('192.168.0.0', 16, 'ipv4')
nearby.addAddress('0.0.0.0', 'ipv4')
nearby.addAddress('::', 'ipv6')
nearby.addAddress('::1', 'ipv6')
nearby.addSubnet('fc00::', 7, 'ipv6')

const machine = hostname().toLowerCase()

/**
 * Whether a Host header names this machine or its network, by the rule of Ollama's own listener on loopback
 * (server/routes.go, allowedHostsMiddleware): no owner of a public domain can make a browser send one of these names. This
 * refuses a web page that rebinds its own name to 127.0.0.1 (CVE-2024-28224).
 */
export function isLocalHost(header: string): boolean {
  const host = hostOf(header)
  if (host === '127.0.0.1' || host === 'localhost' || host === '' || host === machine) return true
  const family = isIP(host)
  if (family !== 0) return nearby.check(host, family === 4 ? 'ipv4' : 'ipv6') || isOwnAddress(host)
  return /\.(?:localhost|local|internal)$/.test(host)
}

/** The host of a Host header in lower case, without its port and without the brackets of IPv6. */
export function hostOf(header: string): string {
  const host = header.slice(0, hostEnd(header)).toLowerCase()
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
}

/** Where the host ends: before the colon of a port, which may be empty. Called by each request, so without regular expressions. */
function hostEnd(header: string): number {
  let end = header.length
  while (end > 0 && isDigit[header.charCodeAt(end - 1)] === 1) end--
  return header[end - 1] === ':' ? end - 1 : header.length
}

/** Whether a host, without its port, is this machine. */
export function isOwnHost(host: string): boolean {
  const name = host.toLowerCase()
  return isLoopback(name) || name === '0.0.0.0' || name === '::' || name === machine || isOwnAddress(name)
}

function isOwnAddress(host: string): boolean {
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === host),
  )
}
