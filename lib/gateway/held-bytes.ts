import type { Config } from '../fleet/config.ts'
import { ProxyError } from '../shared/errors.ts'
import type { BodyShare } from './body-budget.ts'

export type Limits = Config['limits']

const none = Buffer.alloc(0)

/**
 * Bytes of a request in one buffer that counts from when room for it is made: once where the length is announced, else
 * doubled. Chunks kept as they come would weigh a hundred times their bytes when each is one byte long.
 */
export class HeldBytes {
  readonly #limits: Limits
  readonly #share: BodyShare
  /** What counts. */
  #capacity = 0
  /** As large, or not allocated so far. */
  #buffer: Buffer = none
  #size = 0

  constructor(limits: Limits, share: BodyShare) {
    this.#limits = limits
    this.#share = share
  }

  /** Makes room for `capacity` bytes in all. @throws ProxyError `body_too_large`, `bodies_full`. */
  reserve(capacity: number): void {
    const { body_bytes: limit } = this.#limits
    if (capacity > limit) throw new ProxyError('body_too_large', { limit })
    if (!this.#grow(capacity)) throw new ProxyError('bodies_full')
  }

  /** @throws ProxyError `body_too_large`, `bodies_full`. */
  add(chunk: Buffer): void {
    const size = this.#size + chunk.length
    if (size > this.#capacity) {
      const doubled = Math.min(this.#capacity * 2, this.#limits.body_bytes)
      this.reserve(Math.max(size, doubled))
    }
    this.#append(chunk)
  }

  /** Adds what may be lost: false when there is no room for it. */
  offer(chunk: Buffer): boolean {
    const size = this.#size + chunk.length
    if (size > this.#capacity && !this.#grow(Math.max(size, this.#capacity * 2))) return false
    this.#append(chunk)
    return true
  }

  /** Puts `text` in the place of the bytes from `start` to `end`. @throws ProxyError `bodies_full`. */
  replace(start: number, end: number, text: Buffer): void {
    const rest = this.bytes.subarray(end)
    const size = start + text.length + rest.length
    if (size > this.#capacity && !this.#grow(size)) throw new ProxyError('bodies_full')
    const buffer = this.#allocated()
    rest.copy(buffer, start + text.length)
    text.copy(buffer, start)
    this.#size = size
  }

  /** Gives all of it back. */
  release(): void {
    this.#share.give(this.#capacity)
    this.#capacity = 0
    this.#buffer = none
    this.#size = 0
  }

  /** Valid until the next change. */
  get bytes(): Buffer {
    return this.#size === this.#buffer.length ? this.#buffer : this.#buffer.subarray(0, this.#size)
  }

  #grow(capacity: number): boolean {
    const { body_bytes: limit, inflight_body_bytes: together } = this.#limits
    // However small the budget is set, one largest body can pass.
    if (!this.#share.take(capacity - this.#capacity, Math.max(limit, together))) return false
    this.#capacity = capacity
    return true
  }

  #append(chunk: Buffer): void {
    // Most bodies come in one piece, with memory of its own. What was unfolded may be a small part of a large one.
    const isAlone = chunk.length === chunk.buffer.byteLength
    if (isAlone && chunk.length === this.#capacity) this.#buffer = chunk
    else chunk.copy(this.#allocated(), this.#size)
    this.#size += chunk.length
  }

  #allocated(): Buffer {
    if (this.#buffer.length === this.#capacity) return this.#buffer
    const grown = Buffer.allocUnsafe(this.#capacity)
    this.#buffer.copy(grown, 0, 0, this.#size)
    this.#buffer = grown
    return grown
  }
}
