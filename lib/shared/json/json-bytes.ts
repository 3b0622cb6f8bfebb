export const quote = 0x22
export const backslash = 0x5c
export const openBrace = 0x7b
export const closeBrace = 0x7d
export const openBracket = 0x5b
export const closeBracket = 0x5d
export const comma = 0x2c
export const colon = 0x3a
export const minus = 0x2d
export const zero = 0x30
export const dot = 0x2e
export const letterF = 0x66
export const letterT = 0x74
export const letterU = 0x75

/** 1 for the four kinds of JSON white space. */
export const isSpace = table(' \t\r\n')
export const isDigit = table('0123456789')
export const isHexDigit = table('0123456789abcdefABCDEF')
export const isSign = table('+-')
export const isExponent = table('eE')
export const isBase64 = table('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')
/** 1 for bytes that after a backslash are the whole escape. */
export const isEscape = table('"\\/bfnrt')
/** 1 for bytes that end the plain run inside a string: the quote, the backslash and control characters. */
const endsRun = table('"\\', (byte) => byte < 0x20)

/** Bytes of a string that are read one by one: for a short string, views of its memory cost more than they save. */
const shortBytes = 256

function table(characters: string, also: (byte: number) => boolean = () => false): Uint8Array {
  const known = new Set(Buffer.from(characters))
  return Uint8Array.from({ length: 256 }, (_, byte) => (known.has(byte) || also(byte) ? 1 : 0))
}

/** Which of these ASCII words the bytes spell, compared byte by byte: no string is made. */
export function wordAt(
  bytes: Uint8Array,
  from: number,
  to: number,
  words: readonly string[],
): string | undefined {
  return words.find((word) => word.length === to - from && beginsWith(bytes, from, word))
}

/** Whether a word in ASCII stands at `from`. */
export function beginsWith(bytes: Uint8Array, from: number, word: string): boolean {
  for (let index = 0; index < word.length; index++)
    if (bytes[from + index] !== word.charCodeAt(index)) return false
  return true
}

/** Where the plain run inside a string that begins at `from` ends; `to` when it goes on there. */
export function endOfRun(bytes: Uint8Array, from: number, to: number): number {
  const nearby = Math.min(to, from + shortBytes)
  const at = skipPlain(bytes, from, nearby)
  return at < nearby ? at : skipPlain(bytes, skipQuads(bytes, at, to), to)
}

function skipPlain(bytes: Uint8Array, from: number, to: number): number {
  let at = from
  while (at < to && endsRun[bytes[at] as number] === 0) at++
  return at
}

/** Skips four plain bytes at a time, where memory is aligned: images are megabytes long. */
function skipQuads(bytes: Uint8Array, from: number, to: number): number {
  const aligned = from + ((4 - ((bytes.byteOffset + from) % 4)) % 4)
  const at = skipPlain(bytes, from, Math.min(aligned, to))
  if (at < aligned) return at
  const quads = new Int32Array(bytes.buffer, bytes.byteOffset + at, (to - at) >> 2)
  let index = 0
  while (index < quads.length && !endsRunWithin(quads[index] as number)) index++
  return at + index * 4
}

/** Whether one of four bytes is a control character, a quote or a backslash. */
function endsRunWithin(quad: number): boolean {
  const quotes = quad ^ 0x22222222
  const backslashes = quad ^ 0x5c5c5c5c
  // A subtraction borrows into the sign bit of each byte that is smaller than what is subtracted.
  const borrows =
    ((quad - 0x20202020) & ~quad) |
    ((quotes - 0x01010101) & ~quotes) |
    ((backslashes - 0x01010101) & ~backslashes)
  return (borrows & 0x80808080) !== 0
}
