import type { Random } from './random.ts'

interface BackoffOptions {
  /** The first pause, and the longest one before its jitter, in milliseconds. */
  readonly baseMs: number
  readonly maxMs: number
  readonly random: Random
}

/**
 * Pauses that double from one to the next. Each is jittered by 20 %, so that the instances do not all try a recovering
 * node at the same moment.
 */
export class Backoff {
  readonly #options: BackoffOptions
  #doublings = -1

  constructor(options: BackoffOptions) {
    this.#options = options
  }

  /** Milliseconds of the next pause. */
  next(): number {
    this.#doublings++
    return this.repeat()
  }

  /** Milliseconds of a pause as long as the last one: nothing new was learned. */
  repeat(): number {
    const { baseMs, maxMs, random } = this.#options
    return doubledMs(baseMs, maxMs, Math.max(0, this.#doublings)) * (0.8 + 0.4 * random())
  }

  /** The next pause is the first again. */
  reset(): void {
    this.#doublings = -1
  }
}

/** `baseMs` after so many doublings; `maxMs` limits it, unless `baseMs` is longer anyway. Without jitter. */
export function doubledMs(baseMs: number, maxMs: number, doublings: number): number {
  return Math.min(baseMs * 2 ** doublings, Math.max(baseMs, maxMs))
}
