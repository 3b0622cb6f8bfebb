import { randomInt } from 'node:crypto'

/**
 * Of a long piece only the length and so many bytes at either end are hashed, so that a long prompt costs no more
 * than a short one. A change in between goes unnoticed: then less is cached than expected, once.
 */
const endBytes = 512
/** With secrets, a caller cannot make its prompt look like that of another tenant. */
const [secretA, secretB] = [randomInt(2 ** 32), randomInt(2 ** 32)]

/** A fast hash of 53 bits of the hash before and these bytes; never shown to a caller (mixing as in cyrb53). */
export function chainBytes(before: number, bytes: Uint8Array, start = 0, end = bytes.length): number {
  let a = secretA ^ before
  let b = secretB ^ (before / 2 ** 32) ^ (end - start)
  for (let at = start; at < end; at++) {
    if (at === start + endBytes && end - endBytes > at) at = end - endBytes
    const byte = bytes[at] as number
    a = Math.imul(a ^ byte, 0x9e3779b1)
    b = Math.imul(b ^ byte, 0x5f356495)
  }
  return mixed(a, b)
}

/** The same for a short text, without converting it to bytes. */
export function chainText(before: number, text: string): number {
  let a = secretA ^ before
  let b = secretB ^ (before / 2 ** 32) ^ text.length
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    a = Math.imul(a ^ unit, 0x9e3779b1)
    b = Math.imul(b ^ unit, 0x5f356495)
  }
  return mixed(a, b)
}

function mixed(a: number, b: number): number {
  const high = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35)
  const low = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35)
  return (high & 0x1fffff) * 2 ** 32 + (low >>> 0)
}
