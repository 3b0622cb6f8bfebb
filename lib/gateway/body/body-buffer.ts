import type { Config } from '../../fleet/config.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { BodyShare, Room } from './body-budget.ts'

export type BodyLimits = Config['limits']

type Sizes = Pick<BodyLimits, 'body_bytes' | 'inflight_body_bytes'>

/**
 * The part of a container's memory limit that is for bodies is one in so many: each body may be copied once for
 * edits.
 */
const partForBodies = 4
/** Read once: the call costs more than the rest of a small body. */
const ownMemory = process.constrainedMemory()

/**
 * The room for bodies: the configured limits, within the memory limit of the machine or container, beyond which the
 * kernel ends the process.
 *
 * @param memory bytes; 0, or more than any machine has, when there is no limit
 */
export function roomOf({ body_bytes, inflight_body_bytes }: Sizes, memory: number = ownMemory): Room {
  const allowed = memory > 0 ? Math.floor(memory / partForBodies) : Number.POSITIVE_INFINITY
  return { alone: body_bytes, together: Math.min(inflight_body_bytes, allowed) }
}

const none = Buffer.alloc(0)

/**
 * Growth factors of a buffer, tried in order. Each growth copies the bytes: growing by single pieces, when room is
 * short, would cost seconds of CPU for one body.
 */
const steps = [2, 1.5, 1.25] as const

/**
 * The bytes of a body in one buffer, which is doubled as they come and counts by its capacity. A list of chunks would
 * take a hundred times its bytes when each is one byte long.
 */
export class BodyBuffer {
  readonly #limits: Sizes
  readonly #share: BodyShare
  readonly #room: Room
  /** The bytes that count. */
  #capacity = 0
  /** The capacity is not doubled beyond this. */
  #expected: number
  /** As large as the capacity, or not allocated yet. */
  #buffer: Buffer = none
  #size = 0

  constructor(limits: Sizes, share: BodyShare) {
    this.#limits = limits
    this.#share = share
    this.#room = roomOf(limits)
    this.#expected = limits.body_bytes
  }

  /**
   * The caller announces so many bytes. They are not taken, but are refused at once when they would not fit.
   *
   * @throws ProxyError `body_too_large`, `bodies_full`.
   */
  announce(bytes: number): void {
    const { body_bytes: limit } = this.#limits
    if (bytes > limit) throw new ProxyError('body_too_large', { limit })
    if (!this.#share.fits(bytes, this.#room)) throw new ProxyError('bodies_full')
    this.#expected = bytes
  }

  /** @throws ProxyError `body_too_large`, `bodies_full`. */
  add(chunk: Buffer): void {
    const size = this.#size + chunk.length
    if (size > this.#capacity) {
      const { body_bytes: limit } = this.#limits
      if (size > limit) throw new ProxyError('body_too_large', { limit })
      if (!this.#makeRoom(size)) throw new ProxyError('bodies_full')
    }
    this.#append(chunk)
  }

  /** Adds a chunk if there is room. Returns whether there was. */
  offer(chunk: Buffer): boolean {
    const size = this.#size + chunk.length
    if (size > this.#capacity && !this.#makeRoom(size)) return false
    this.#append(chunk)
    return true
  }

  /** Replaces the bytes from `start` to `end` by `text`. @throws ProxyError `bodies_full`. */
  replace(start: number, end: number, text: Buffer): void {
    const rest = this.bytes.subarray(end)
    const size = start + text.length + rest.length
    if (size > this.#capacity && !this.#grow(size)) throw new ProxyError('bodies_full')
    const buffer = this.#allocated()
    rest.copy(buffer, start + text.length)
    text.copy(buffer, start)
    this.#size = size
  }

  /** Releases all bytes. */
  release(): void {
    this.#share.release(this.#capacity)
    this.#capacity = 0
    this.#buffer = none
    this.#size = 0
  }

  get size(): number {
    return this.#size
  }

  /** Valid until the next change. */
  get bytes(): Buffer {
    return this.#size === this.#buffer.length ? this.#buffer : this.#buffer.subarray(0, this.#size)
  }

  /** Doubles the capacity, up to the expected size; takes a smaller step when there is no room for that. */
  #makeRoom(size: number): boolean {
    return steps.some((step) =>
      this.#grow(Math.max(size, Math.min(Math.ceil(this.#capacity * step), this.#expected))),
    )
  }

  #grow(capacity: number): boolean {
    if (!this.#share.take(capacity - this.#capacity, this.#room)) return false
    this.#capacity = capacity
    return true
  }

  #append(chunk: Buffer): void {
    // Most bodies come in one chunk with its own memory. A decompressed chunk may be a small part of a large
    // allocation.
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
