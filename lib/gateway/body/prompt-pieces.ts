import { colon, comma, isBase64, isSpace, openBracket, wordAt } from '../../shared/json/json-bytes.ts'

/** One text, or one item of a list, that a model will read: where it stands in the body, and what of it is no text. */
export interface PromptPiece {
  readonly start: number
  readonly end: number
  readonly images: number
  readonly imageBytes: number
}

/** The fields whose values a model reads, in any dialect (docs/ollama.md#requests, docs/ollama.md#answers). */
const names = ['system', 'instructions', 'tools', 'messages', 'input', 'prompt', 'images']
/** Of a longer list the rest counts as one piece: nobody's conversation is that long. */
const maxPieces = 1024
/** Bytes without a space, an escape or a full stop: no text in any language, but base64. */
const unbrokenBytes = 128
const maxMediaTypeBytes = 100

/**
 * Remembers, while a body is scanned, where the pieces of its prompt are. Of a field that occurs twice the last counts, as
 * it does for Ollama; one in another case is not seen, which costs an estimate and nothing else.
 */
export class PromptPieces {
  readonly #bytes: Uint8Array
  readonly #pieces = new Map<string, PromptPiece[]>()
  /** Those of the value that is being walked. */
  #current: PromptPiece[] = []
  #isList = false
  /** Where the next piece begins, or the comma before it. */
  #start = 0
  #images = 0
  #imageBytes = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Of these fields, as far as they are there: one field after the other, the pieces of each in their order. */
  of(fields: readonly string[]): readonly PromptPiece[] {
    const found: PromptPiece[] = []
    for (const name of fields) for (const piece of this.#pieces.get(name) ?? []) found.push(piece)
    return found
  }

  /** A field of the body begins. Returns whether it is of the prompt. */
  begin(keyStart: number, keyEnd: number, start: number): boolean {
    const name = wordAt(this.#bytes, keyStart + 1, keyEnd - 1, names)
    if (name === undefined) return false
    this.#current = []
    this.#pieces.set(name, this.#current)
    this.#isList = this.#bytes[start] === openBracket
    this.#restart(this.#isList ? start + 1 : start)
    return true
  }

  endValue(end: number): void {
    if (!this.#isList || this.#current.length === maxPieces - 1) this.#add(end)
  }

  /** Returns whether the items behind it are to be told apart as well. */
  endItem(end: number): boolean {
    this.#add(end)
    return this.#current.length < maxPieces - 1
  }

  /** A long string was passed: of an image no byte is text. */
  passString(start: number, end: number): void {
    if (!this.#isImage(start + 1)) return
    this.#images++
    this.#imageBytes += end - start
  }

  #add(end: number): void {
    let start = this.#start
    while (this.#bytes[start] === comma || isSpace[this.#bytes[start] ?? 0] === 1) start++
    this.#current.push({ start, end, images: this.#images, imageBytes: this.#imageBytes })
    this.#restart(end)
  }

  #restart(at: number): void {
    this.#start = at
    this.#images = 0
    this.#imageBytes = 0
  }

  /** Base64 as such, or in a data URL. */
  #isImage(at: number): boolean {
    const scheme = this.#unbroken(at)
    if (scheme === 'data'.length && this.#bytes[at + scheme] === colon) {
      const data = this.#bytes.subarray(at, at + maxMediaTypeBytes).indexOf(comma)
      return data > 0 && this.#unbroken(at + data + 1) === unbrokenBytes
    }
    return scheme === unbrokenBytes
  }

  /** Bytes of base64 in a row, as far as it matters. */
  #unbroken(at: number): number {
    let length = 0
    while (length < unbrokenBytes && isBase64[this.#bytes[at + length] ?? 0] === 1) length++
    return length
  }
}
