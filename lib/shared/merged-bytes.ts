const none = Buffer.alloc(0)

/**
 * Bytes that arrive in pieces, in one buffer that doubles when it is full. A list of one-byte pieces would take a hundred
 * times the memory, and joining them at each piece takes quadratic time.
 */
export class MergedBytes {
  #buffer: Buffer = none
  #size = 0
  /** Bytes of the buffer that may be written: 0 while the buffer is the first piece itself, which most often is the only one. */
  #capacity = 0

  get size(): number {
    return this.#size
  }

  /** Valid until the next change. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#size)
  }

  add(piece: Buffer): void {
    const size = this.#size + piece.length
    if (this.#size === 0) {
      this.#buffer = piece
      this.#capacity = 0
    } else {
      if (size > this.#capacity) this.#grow(Math.max(size, this.#size * 2))
      piece.copy(this.#buffer, this.#size)
    }
    this.#size = size
  }

  /** Takes all of it out. */
  take(): Buffer {
    const { bytes } = this
    this.#buffer = none
    this.#size = 0
    return bytes
  }

  #grow(capacity: number): void {
    const grown = Buffer.allocUnsafe(capacity)
    this.#buffer.copy(grown, 0, 0, this.#size)
    this.#buffer = grown
    this.#capacity = capacity
  }
}
