import { colon, comma, isBase64, isSpace, openBracket } from '../../shared/json/json-bytes.ts'
import { FieldNames } from './field-names.ts'

/** A piece of the prompt: a text or an item of a list, with the images in it. */
export interface PromptPiece {
  readonly start: number
  readonly end: number
  readonly images: number
  readonly imageBytes: number
}

/** Fields that a model reads, in any API (docs/ollama.md#requests, docs/ollama.md#answers). */
const names = new FieldNames(['system', 'instructions', 'tools', 'messages', 'input', 'prompt', 'images'])
/** Of a longer list the rest counts as one piece. */
const maxPieces = 1024
/** So many bytes without space, escape or full stop are base64, not text. */
const unbrokenBytes = 128
const maxMediaTypeBytes = 100

/**
 * Notes the pieces of the prompt while a body is scanned. A field counts in every spelling that Go accepts, and
 * of a repeated field the last, as for Ollama: what is removed from a prompt is looked for here.
 */
export class PromptPieces {
  readonly #bytes: Buffer
  readonly #pieces = new Map<string, PromptPiece[]>()
  /** The pieces of the current value. */
  #current: PromptPiece[] = []
  #isList = false
  /** Position of the next piece, or of the comma before it. */
  #start = 0
  #images = 0
  #imageBytes = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** The pieces of these fields, field by field, in order. */
  of(fields: readonly string[]): readonly PromptPiece[] {
    const found: PromptPiece[] = []
    for (const name of fields) for (const piece of this.#pieces.get(name) ?? []) found.push(piece)
    return found
  }

  /** A field of the body begins. Returns whether it belongs to the prompt. */
  begin(keyStart: number, keyEnd: number, start: number): boolean {
    const name = names.findAsGo(this.#bytes, keyStart, keyEnd)
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

  /** Returns whether later items are separate pieces too. */
  endItem(end: number): boolean {
    this.#add(end)
    return this.#current.length < maxPieces - 1
  }

  /** A long string was passed. Bytes of an image are no text. */
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

  /** Whether a string is base64, plain or in a data URL. */
  #isImage(at: number): boolean {
    const scheme = this.#unbroken(at)
    if (scheme === 'data'.length && this.#bytes[at + scheme] === colon) {
      const data = this.#bytes.subarray(at, at + maxMediaTypeBytes).indexOf(comma)
      return data > 0 && this.#unbroken(at + data + 1) === unbrokenBytes
    }
    return scheme === unbrokenBytes
  }

  /** Number of base64 bytes in a row, up to a limit. */
  #unbroken(at: number): number {
    let length = 0
    while (length < unbrokenBytes && isBase64[this.#bytes[at + length] ?? 0] === 1) length++
    return length
  }
}
