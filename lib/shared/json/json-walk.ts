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
/** Nesting: the outermost object counts as 1. */
const maxKeyBytes = 64 * 1024
/** In a row. Some callers pad bodies, but not by so much. */
const maxSpaceBytes = 1024 * 1024
const maxDigits = 1000
const literals = ['true', 'false', 'null']

/** Shorter strings are not reported. */
const longStringBytes = 512

export interface WalkListener {
  /**
   * Of the outermost object: where a field's key begins and ends, quotes included, and its value begins. Returns whether
   * its value is to be followed.
   */
  field(keyStart: number, keyEnd: number, valueStart: number): boolean
  /** A followed value ended. */
  valueEnded(end: number): void
  /** An item of a followed array ended. Returns whether later items are to be reported too. */
  itemEnded(end: number): boolean
  /** A string of the document is at least 512 bytes long, quotes included. */
  longString(start: number, end: number): void
}

/**
 * A JSON reader that never builds the document: it checks the syntax byte by byte. JSON.parse of a caller's body blocks
 * the event loop for seconds on nested input and triples its memory; this takes no memory, and some 13 ns for the dearest
 * byte: no text is made of what a caller can repeat a million times. It can stop anywhere and go on later: of 64 MiB of
 * small items a walk takes most of a second.
 */
export class JsonWalk {
  readonly #bytes: Uint8Array
  readonly #listener: WalkListener
  /** The brackets that are open. */
  readonly #closers: number[] = []
  #at: number
  /** Where the string begins in which the walk stopped; -1 when it stopped outside a string. */
  #stringStart = -1
  /** Ends of values down to this depth are reported: 1 is the outermost object's, 2 those within. */
  #toldDepth = 0

  constructor(bytes: Uint8Array, at: number, listener: WalkListener) {
    this.#bytes = bytes
    this.#at = at
    this.#listener = listener
  }

  /** Fields and items so far, at any depth. */
  values = 0

  /** The position in bytes. */
  get at(): number {
    return this.#at
  }

  /** Enters the object that follows, after white space. Returns where it begins. @throws ScanError */
  begin(): number {
    this.#space()
    if (this.#bytes[this.#at] !== openBrace) throw new ScanError('the body must be a JSON object')
    const start = this.#at
    this.#open(closeBrace)
    return start
  }

  /** Goes on to the end of the object, or stops at `until` or somewhat later. Returns whether it is at the end. @throws ScanError */
  advance(until: number): boolean {
    if (this.#stringStart >= 0 && !this.#string(until)) return false
    while (this.#closers.length > 0) {
      if (this.#at >= until) return false
      this.values++
      this.#space()
      const byte = this.#bytes[this.#at]
      if (byte === openBrace) this.#open(closeBrace)
      else if (byte === openBracket) this.#open(closeBracket)
      else if (byte === quote) {
        this.#stringStart = this.#at++
        if (!this.#string(until)) return false
      } else {
        this.#word()
        this.#afterValue()
      }
    }
    return true
  }

  /** @throws ScanError when anything but white space follows. */
  end(): void {
    this.#space()
    if (this.#at < this.#bytes.length) throw new ScanError(`unexpected byte after the object at ${this.#at}`)
  }

  /** Enters an object or array, and leaves it again when it is empty. */
  #open(closer: number): void {
    if (this.#closers.length >= maxDepth) throw new ScanError(`nested deeper than ${maxDepth}`)
    this.#at++
    this.#space()
    if (this.#bytes[this.#at] === closer) {
      this.#at++
      this.#afterValue()
    } else {
      this.#closers.push(closer)
      this.#beforeValue()
    }
  }

  /** In an object, consumes the key and its colon; reports keys of the outermost object. */
  #beforeValue(): void {
    if (this.#closers.at(-1) !== closeBrace) return
    this.#space()
    if (this.#bytes[this.#at] !== quote) throw this.#unexpected('a field name')
    const from = this.#at++
    if (!this.#skipString(from + maxKeyBytes))
      throw new ScanError(`a field name is longer than ${maxKeyBytes} bytes`)
    const to = this.#at
    this.#space()
    if (this.#bytes[this.#at] !== colon) throw this.#unexpected('":"')
    this.#at++
    if (this.#closers.length > 1) return
    this.#space()
    this.#toldDepth = this.#listener.field(from, to, this.#at) ? 2 : 0
  }

  /** After a value: a comma and what follows it, or the brackets that close here. */
  #afterValue(): void {
    const closers = this.#closers
    while (closers.length > 0) {
      if (closers.length <= this.#toldDepth) this.#ended()
      this.#space()
      const byte = this.#bytes[this.#at]
      if (byte === comma) {
        this.#at++
        this.#beforeValue()
        return
      }
      if (byte !== closers.at(-1)) throw this.#unexpected('"," or a closing bracket')
      this.#at++
      closers.pop()
    }
  }

  #ended(): void {
    const closers = this.#closers
    if (closers.length === 1) this.#listener.valueEnded(this.#at)
    else if (closers[1] !== closeBracket || !this.#listener.itemEnded(this.#at)) this.#toldDepth = 1
  }

  /** Continues in a string value. False when it stopped at `until`. */
  #string(until: number): boolean {
    if (!this.#skipString(until)) return false
    const start = this.#stringStart
    this.#stringStart = -1
    if (this.#at - start >= longStringBytes) this.#listener.longString(start, this.#at)
    this.#afterValue()
    return true
  }

  /** Moves behind the closing quote. False when that is not before `until`. */
  #skipString(until: number): boolean {
    const bytes = this.#bytes
    const to = Math.min(until, bytes.length)
    let at = this.#at
    for (;;) {
      // An escape may end behind it.
      if (at < to) at = endOfRun(bytes, at, to)
      if (at >= to) break
      if (bytes[at] === quote) {
        this.#at = at + 1
        return true
      }
      if (bytes[at] !== backslash) throw new ScanError(`control character in a string at ${at}`)
      at += this.#escapeLength(at)
    }
    if (at >= bytes.length) throw new ScanError('a string does not end')
    this.#at = at
    return false
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
    const to = from + maxDigits
    while (this.#at < to && isDigit[this.#bytes[this.#at] ?? 0] === 1) this.#at++
    if (this.#at === from) throw this.#unexpected('a digit')
    if (this.#at === to) throw new ScanError(`a number has more than ${maxDigits} digits`)
  }

  #literal(): void {
    const literal = literals.find((word) => beginsWith(this.#bytes, this.#at, word))
    if (literal === undefined) throw this.#unexpected('a value')
    this.#at += literal.length
  }

  #space(): void {
    const from = this.#at
    while (isSpace[this.#bytes[this.#at] ?? 0] === 1)
      if (++this.#at - from > maxSpaceBytes)
        throw new ScanError(`more than ${maxSpaceBytes} bytes of white space in a row`)
  }

  #unexpected(wanted: string): ScanError {
    if (this.#at >= this.#bytes.length) return new ScanError(`ends where ${wanted} was expected`)
    return new ScanError(`expected ${wanted} at byte ${this.#at}`)
  }
}
