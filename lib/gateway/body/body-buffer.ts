import type { Config } from '../../fleet/config.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { BodyShare, Room } from './body-budget.ts'

export type BodyLimits = Config['limits']

type Sizes = Pick<BodyLimits, 'body_bytes' | 'inflight_body_bytes'>

/** Of the memory that a container may use, so much is for bodies: each may be copied once while it is changed. */
const partForBodies = 4
/** Read once: it costs more than the rest of a small request's body. */
const ownMemory = process.constrainedMemory()

/**
 * What the configuration leaves for bodies, within what the machine or the container of this process allows: the kernel
 * ends a process that takes more.
 *
 * @param memory bytes; 0, or more than any machine has, where nothing limits them
 */
export function roomOf({ body_bytes, inflight_body_bytes }: Sizes, memory: number = ownMemory): Room {
  const allowed = memory > 0 ? Math.floor(memory / partForBodies) : Number.POSITIVE_INFINITY
  return { alone: body_bytes, together: Math.min(inflight_body_bytes, allowed) }
}

const none = Buffer.alloc(0)

/**
 * How many times larger a buffer becomes. Each step copies what is here: one for each piece that comes, however little room
 * is left, would cost seconds of CPU for one body.
 */
const steps = [2, 1.5, 1.25] as const

/**
 * Bytes of a request in one buffer, which is doubled as they come and counts as large as it is. Chunks kept as they come
 * would weigh a hundred times their bytes when each is one byte long.
 */
export class BodyBuffer {
  readonly #limits: Sizes
  readonly #share: BodyShare
  readonly #room: Room
  /** What counts. */
  #capacity = 0
  /** No more room than this is made ahead of what comes. */
  #expected: number
  /** As large as the capacity, or not allocated so far. */
  #buffer: Buffer = none
  #size = 0

  constructor(limits: Sizes, share: BodyShare) {
    this.#limits = limits
    this.#share = share
    this.#room = roomOf(limits)
    this.#expected = limits.body_bytes
  }

  /**
   * The caller says that so many bytes will come. Nothing is taken for them, but what would not fit now is not asked for.
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

  /** Adds what may be lost: false when there is no room for it. */
  offer(chunk: Buffer): boolean {
    const size = this.#size + chunk.length
    if (size > this.#capacity && !this.#makeRoom(size)) return false
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

  /** Doubles the capacity, as far as that is expected to be used; where there is no room for that, takes a smaller step. */
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
