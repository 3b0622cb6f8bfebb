/** Requests in a row of which the node says nothing, before it counts as one that answers none. */
const enough = 3

/** The last sign of an answer; written for each piece of one, so it is a bare field. */
export interface Pulse {
  /** Monotonic milliseconds. */
  heardAt: number
}

/**
 * Whether one model on one node answers at all. A node may take requests, answer probes, and begin none of its answers: a
 * known deadlock of Ollama's scheduler (ollama issue 17408). Requests that were sent after the model was last heard and
 * are overdue speak for that; one piece of any answer speaks against it.
 */
export class Silence implements Pulse {
  heardAt = Number.NEGATIVE_INFINITY
  #count = 0
  /** When the first of them was sent. */
  #since = 0
  #countedAt = Number.NEGATIVE_INFINITY

  /** A request that was sent then is overdue; to be told once for each. */
  overdue(sentAt: number, now: number): void {
    if (sentAt <= this.heardAt) return
    if (this.#countedAt <= this.heardAt) this.#count = 0
    if (this.#count === 0) this.#since = sentAt
    this.#count++
    this.#since = Math.min(this.#since, sentAt)
    this.#countedAt = now
  }

  /** Since when it answers nothing, in monotonic milliseconds; null while it may well be that it works. */
  get since(): number | null {
    return this.#count >= enough && this.#countedAt > this.heardAt ? this.#since : null
  }

  /** Requests that got no answer. */
  get count(): number {
    return this.#count
  }
}
