import { BodyBudget, type BodyShare } from '../body/body-budget.ts'
import { BodyBuffer } from '../body/body-buffer.ts'

/** The budget of all held responses, of all instances in this process, which share its memory. */
const budget = new BodyBudget()
const togetherBytes = 256 * 1024 * 1024

/** A response that is held until it is complete. Its pieces are merged: a node may write it byte by byte. */
export class HeldPieces implements Disposable {
  readonly #maxBytes: number
  readonly #share: BodyShare
  readonly #held: BodyBuffer

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#share = budget.open('answers')
    this.#held = new BodyBuffer({ body_bytes: maxBytes, inflight_body_bytes: togetherBytes }, this.#share)
  }

  get bytes(): Buffer {
    return this.#held.bytes
  }

  /** Adds a piece; false when the response is then too large, or there is no room for it now. */
  add(piece: Buffer): boolean {
    return this.#held.size + piece.length <= this.#maxBytes && this.#held.offer(piece)
  }

  [Symbol.dispose](): void {
    this.#share[Symbol.dispose]()
  }
}

/** Bytes of responses held now, by every instance in this process. */
export function heldResponseBytes(): number {
  return budget.held
}
