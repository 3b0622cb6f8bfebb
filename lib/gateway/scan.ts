/**
 * A JSON reader that never builds the document: it checks the syntax byte by byte and remembers where the top-level
 * fields stand that routing needs. JSON.parse of a caller's body blocks the event loop for seconds on nested input and
 * triples its memory (sheet reliability-security.md §0.2); this takes no memory, and a few nanoseconds for the dearest
 * byte: no text is made of what a caller can repeat a million times.
 */

/** A top-level field: its decoded text for strings, and the bytes of its value. */
interface Field {
  readonly start: number
  readonly end: number
}

export interface Scanned {
  /** The value of `model`, with the bytes it spans (quotes included), or null when there is none. */
  readonly model: (Field & { readonly value: string }) | null
  /** The value of `stream`; undefined when absent or not a boolean, which leaves the route's default. */
  readonly stream: boolean | undefined
}

export class ScanError extends Error {
  override readonly name = 'ScanError'
}

/** Of "model" and "stream" with their quotes. */
const wantedLengths = [7, 8] as const
const maxDepth = 64
/** Of the outermost object. Honest requests have a score; the keys of each are decoded, which a million must not be. */
const maxFields = 1000

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d
const comma = 0x2c
const colon = 0x3a
const minus = 0x2d
const zero = 0x30
const dot = 0x2e
const letterU = 0x75

const literals = ['true', 'false', 'null'].map((text) => Buffer.from(text))

/** 1 for the four kinds of JSON white space. */
const isSpace = table(' \t\r\n')
const isDigit = table('0123456789')
const isHexDigit = table('0123456789abcdefABCDEF')
const isSign = table('+-')
const isExponent = table('eE')
/** 1 for bytes that after a backslash are the whole escape. */
const isEscape = table('"\\/bfnrt')
/** 1 for bytes that end the plain run inside a string: the quote, the backslash and control characters. */
const endsRun = table('"\\', (byte) => byte < 0x20)

/**
 * Scans one JSON object.
 *
 * @throws ScanError with the reason when the bytes are not exactly one JSON object, nest deeper than 64, or name `model`
 *   or `stream` twice or in another case: Go would take the last of any spelling, and what is authorised must be what
 *   runs (sheet ollama-api.md §1.1).
 */
export function scan(bytes: Uint8Array): Scanned {
  return new Scanner(bytes).document()
}

class Scanner {
  readonly #bytes: Uint8Array
  #at = 0
  #fieldCount = 0
  readonly #fields = new Map<string, Field>()

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  document(): Scanned {
    this.#space()
    if (this.#bytes[this.#at] !== openBrace) throw new ScanError('the body must be a JSON object')
    this.#value()
    this.#space()
    if (this.#at < this.#bytes.length) throw new ScanError(`unexpected byte after the object at ${this.#at}`)
    return { model: this.#modelField(), stream: this.#streamField() }
  }

  /** One value, of any depth, without recursion: `closers` is the stack of brackets still open. */
  #value(): void {
    const closers: number[] = []
    do {
      this.#space()
      const byte = this.#bytes[this.#at]
      if (byte === openBrace) this.#open(closeBrace, closers)
      else if (byte === openBracket) this.#open(closeBracket, closers)
      else {
        if (byte === quote) this.#string()
        else this.#word()
        this.#afterValue(closers)
      }
    } while (closers.length > 0)
  }

  /** Enters an object or array, and leaves it again when it is empty. */
  #open(closer: number, closers: number[]): void {
    if (closers.length >= maxDepth) throw new ScanError(`nested deeper than ${maxDepth}`)
    this.#at++
    this.#space()
    if (this.#bytes[this.#at] === closer) {
      this.#at++
      this.#afterValue(closers)
    } else {
      closers.push(closer)
      this.#beforeValue(closers)
    }
  }

  /** In an object, consumes the key and its colon; remembers the top-level keys that matter. */
  #beforeValue(closers: readonly number[]): void {
    if (closers.at(-1) !== closeBrace) return
    this.#space()
    if (this.#bytes[this.#at] !== quote) throw this.#unexpected('a field name')
    const from = this.#at
    this.#string()
    const to = this.#at
    this.#space()
    if (this.#bytes[this.#at] !== colon) throw this.#unexpected('":"')
    this.#at++
    if (closers.length === 1) this.#remember(from, to)
  }

  /** After a value: a comma and what follows it, or the brackets that close here. */
  #afterValue(closers: number[]): void {
    while (closers.length > 0) {
      this.#space()
      const byte = this.#bytes[this.#at]
      if (byte === comma) {
        this.#at++
        this.#beforeValue(closers)
        return
      }
      if (byte !== closers.at(-1)) throw this.#unexpected('"," or a closing bracket')
      this.#at++
      closers.pop()
    }
  }

  #string(): void {
    const bytes = this.#bytes
    let at = this.#at + 1
    for (;;) {
      at = endOfRun(bytes, at)
      if (at >= bytes.length) throw new ScanError('a string does not end')
      if (bytes[at] === quote) break
      if (bytes[at] !== backslash) throw new ScanError(`control character in a string at ${at}`)
      at += this.#escapeLength(at)
    }
    this.#at = at + 1
  }

  #escapeLength(at: number): number {
    const bytes = this.#bytes
    const letter = bytes[at + 1] ?? 0
    if (isEscape[letter] === 1) return 2
    let digits = 0
    while (digits < 4 && isHexDigit[bytes[at + 2 + digits] ?? 0] === 1) digits++
    if (letter !== letterU || digits < 4) throw new ScanError(`invalid escape in a string at ${at}`)
    return 6
  }

  /** A number or a literal. */
  #word(): void {
    const byte = this.#bytes[this.#at]
    if (byte === minus || isDigit[byte ?? 0] === 1) this.#number()
    else this.#literal()
  }

  #number(): void {
    const bytes = this.#bytes
    if (bytes[this.#at] === minus) this.#at++
    if (bytes[this.#at] === zero) this.#at++
    else this.#digits()
    if (bytes[this.#at] === dot) {
      this.#at++
      this.#digits()
    }
    if (isExponent[bytes[this.#at] ?? 0] === 1) {
      this.#at++
      if (isSign[bytes[this.#at] ?? 0] === 1) this.#at++
      this.#digits()
    }
  }

  /** At least one. */
  #digits(): void {
    const from = this.#at
    while (isDigit[this.#bytes[this.#at] ?? 0] === 1) this.#at++
    if (this.#at === from) throw this.#unexpected('a digit')
  }

  #literal(): void {
    const bytes = this.#bytes
    const literal = literals.find(([first]) => first === bytes[this.#at])
    if (!literal?.every((byte, index) => bytes[this.#at + index] === byte)) throw this.#unexpected('a value')
    this.#at += literal.length
  }

  #space(): void {
    while (isSpace[this.#bytes[this.#at] ?? 0] === 1) this.#at++
  }

  /** Notes where the value of a wanted key will begin and end; the end is found by a scanner of its own, once per key. */
  #remember(from: number, to: number): void {
    if (++this.#fieldCount > maxFields) throw new ScanError(`more than ${maxFields} fields`)
    if (!this.#mayBeWanted(from, to)) return
    const key = JSON.parse(this.#text(from, to)) as string
    // Go matches keys by Unicode case folding: upper case maps U+017F to S as it does.
    const wanted = key.toUpperCase() === 'MODEL' ? 'model' : key.toUpperCase() === 'STREAM' ? 'stream' : null
    if (!wanted) return
    if (key !== wanted) throw new ScanError(`field "${key}" must be written "${wanted}"`)
    if (this.#fields.has(wanted)) throw new ScanError(`field "${wanted}" occurs twice`)
    this.#space()
    const start = this.#at
    this.#fields.set(wanted, { start, end: this.#endOfScalar(start) })
  }

  /** Most keys are known by their length, quotes included, to be others; an escape or a byte beyond ASCII may hide one. */
  #mayBeWanted(from: number, to: number): boolean {
    const length = to - from
    if (length === wantedLengths[0] || length === wantedLengths[1]) return true
    if (length > 64) return false // no spelling of the wanted keys is longer
    for (let at = from; at < to; at++) {
      const byte = this.#bytes[at] as number
      if (byte === backslash || byte > 0x7f) return true
    }
    return false
  }

  /** Where a string or word that begins at `start` ends; brackets count as one byte, which no reader of fields accepts. */
  #endOfScalar(start: number): number {
    const byte = this.#bytes[start]
    if (byte === openBrace || byte === openBracket || byte === undefined) return start + 1
    if (byte === quote) this.#string()
    else this.#word()
    const end = this.#at
    this.#at = start
    return end
  }

  #modelField(): Scanned['model'] {
    const field = this.#fields.get('model')
    if (!field) return null
    if (this.#bytes[field.start] !== quote) throw new ScanError('field "model" must be a string')
    return { ...field, value: JSON.parse(this.#text(field.start, field.end)) as string }
  }

  #streamField(): boolean | undefined {
    const field = this.#fields.get('stream')
    const text = field ? this.#text(field.start, field.end) : ''
    return text === 'true' ? true : text === 'false' ? false : undefined
  }

  #text(from: number, to: number): string {
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, to - from).toString('utf8')
  }

  #unexpected(wanted: string): ScanError {
    if (this.#at >= this.#bytes.length) return new ScanError(`ends where ${wanted} was expected`)
    return new ScanError(`expected ${wanted} at byte ${this.#at}`)
  }
}

function table(characters: string, also: (byte: number) => boolean = () => false): Uint8Array {
  const known = new Set(Buffer.from(characters))
  return Uint8Array.from({ length: 256 }, (_, byte) => (known.has(byte) || also(byte) ? 1 : 0))
}

/** Where the plain run inside a string that begins at `from` ends. */
function endOfRun(bytes: Uint8Array, from: number): number {
  let at = from
  const nearby = Math.min(bytes.length, from + 64)
  while (at < nearby && endsRun[bytes[at] as number] === 0) at++
  if (at < nearby) return at
  at = skipQuads(bytes, at)
  while (at < bytes.length && endsRun[bytes[at] as number] === 0) at++
  return at
}

/** Skips four plain bytes at a time, where memory is aligned: images are megabytes long. */
function skipQuads(bytes: Uint8Array, from: number): number {
  const at = from + ((4 - ((bytes.byteOffset + from) % 4)) % 4)
  if (bytes.subarray(from, at).some((byte) => endsRun[byte] === 1) || at >= bytes.length) return from
  const quads = new Int32Array(bytes.buffer, bytes.byteOffset + at, (bytes.length - at) >> 2)
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
