/** Overdue requests in a row until a model counts as silent. */
const enough = 3

/** When a response last made progress; written for each piece, so it is a bare field. */
export interface Pulse {
  /** Monotonic milliseconds. */
  heardAt: number
}

/**
 * Detects a model that does not respond on one node. A node may take requests, answer probes, and begin none of its
 * responses: a known deadlock of Ollama's scheduler (ollama issue 17408). Overdue requests that were sent after the
 * last progress count for that; one piece of any response counts against it.
 */
export class Silence implements Pulse {
  heardAt = Number.NEGATIVE_INFINITY
  #count = 0
  /** When the first of them was sent. */
  #since = 0
  #countedAt = Number.NEGATIVE_INFINITY

  /** A request that was sent then is overdue. To be called once per request. */
  overdue(sentAt: number, now: number): void {
    if (sentAt <= this.heardAt) return
    if (this.#countedAt <= this.heardAt) this.#count = 0
    if (this.#count === 0) this.#since = sentAt
    this.#count++
    this.#since = Math.min(this.#since, sentAt)
    this.#countedAt = now
  }

  /** Since when the model is silent, in monotonic milliseconds; null while it may work. */
  get since(): number | null {
    return this.#count >= enough && this.#countedAt > this.heardAt ? this.#since : null
  }

  /** Overdue requests since then. */
  get count(): number {
    return this.#count
  }
}
