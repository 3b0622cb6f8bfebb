import {
  backslash,
  beginsWith,
  closeBrace,
  closeBracket,
  colon,
  comma,
  dot,
  endOfRun,
  isDigit,
  isEscape,
  isExponent,
  isHexDigit,
  isSign,
  isSpace,
  letterU,
  minus,
  openBrace,
  openBracket,
  quote,
  zero,
} from './json-bytes.ts'

export class ScanError extends Error {
  override readonly name = 'ScanError'
}

const maxDepth = 64
const literals = ['true', 'false', 'null']

/** Strings of fewer bytes are not told of. */
const longStringBytes = 512

interface Listener {
  /**
   * Of the outermost object: where a field's key begins and ends, quotes included, and its value begins. Returns whether
   * its value is to be followed.
   */
  field(keyStart: number, keyEnd: number, valueStart: number): boolean
  /** A value that is followed ended. */
  valueEnded?(end: number): void
  /** An item of an array that is followed ended. Returns whether those behind it shall be told of as well. */
  itemEnded?(end: number): boolean
  /** A string of the document is at least 512 bytes long, quotes included. */
  longString?(start: number, end: number): void
}

/**
 * A JSON reader that never builds the document: it checks the syntax byte by byte. JSON.parse of a caller's body blocks
 * the event loop for seconds on nested input and triples its memory (sheet reliability-security.md §0.2); this takes no
 * memory, and a few nanoseconds for the dearest byte: no text is made of what a caller can repeat a million times.
 */
export class JsonWalk {
  readonly #bytes: Uint8Array
  readonly #listener: Listener
  #at: number
  /** Ends of values at most so deep are told: 1 is the outermost object's, 2 those within. */
  #toldDepth = 0

  constructor(bytes: Uint8Array, at: number, listener: Listener) {
    this.#bytes = bytes
    this.#at = at
    this.#listener = listener
  }

  /** Walks the object that follows, after white space. Returns where it begins. @throws ScanError */
  object(): number {
    this.#space()
    if (this.#bytes[this.#at] !== openBrace) throw new ScanError('the body must be a JSON object')
    const start = this.#at
    this.#value()
    return start
  }

  /** @throws ScanError when something follows, besides white space. */
  end(): void {
    this.#space()
    if (this.#at < this.#bytes.length) throw new ScanError(`unexpected byte after the object at ${this.#at}`)
  }

  /** Where a string or word that begins at `start` ends; brackets count as one byte, which no reader of fields accepts. */
  endOfScalar(start: number): number {
    const byte = this.#bytes[start]
    if (byte === openBrace || byte === openBracket || byte === undefined) return start + 1
    const resumeAt = this.#at
    this.#at = start
    if (byte === quote) this.#string()
    else this.#word()
    const end = this.#at
    this.#at = resumeAt
    return end
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

  /** In an object, consumes the key and its colon; tells of the outermost object's. */
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
    if (closers.length > 1) return
    this.#space()
    this.#toldDepth = this.#listener.field(from, to, this.#at) ? 2 : 0
  }

  /** After a value: a comma and what follows it, or the brackets that close here. */
  #afterValue(closers: number[]): void {
    while (closers.length > 0) {
      if (closers.length <= this.#toldDepth) this.#ended(closers)
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

  #ended(closers: readonly number[]): void {
    if (closers.length === 1) this.#listener.valueEnded?.(this.#at)
    else if (closers[1] !== closeBracket || !this.#listener.itemEnded?.(this.#at)) this.#toldDepth = 1
  }

  #string(): void {
    const bytes = this.#bytes
    const from = this.#at
    let at = from + 1
    for (;;) {
      at = endOfRun(bytes, at)
      if (at >= bytes.length) throw new ScanError('a string does not end')
      if (bytes[at] === quote) break
      if (bytes[at] !== backslash) throw new ScanError(`control character in a string at ${at}`)
      at += this.#escapeLength(at)
    }
    this.#at = at + 1
    if (this.#at - from >= longStringBytes) this.#listener.longString?.(from, this.#at)
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
    const literal = literals.find((word) => beginsWith(this.#bytes, this.#at, word))
    if (literal === undefined) throw this.#unexpected('a value')
    this.#at += literal.length
  }

  #space(): void {
    while (isSpace[this.#bytes[this.#at] ?? 0] === 1) this.#at++
  }

  #unexpected(wanted: string): ScanError {
    if (this.#at >= this.#bytes.length) return new ScanError(`ends where ${wanted} was expected`)
    return new ScanError(`expected ${wanted} at byte ${this.#at}`)
  }
}
