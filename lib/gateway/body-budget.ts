/** One request's part of the budget. Disposing it gives back all it took, once. */
export interface BodyShare extends Disposable {
  /** Takes `bytes` more, unless all shares together would then hold more than `limit`. Returns whether it did. */
  take(bytes: number, limit: number): boolean
  /** Gives back `bytes` that it took. */
  give(bytes: number): void
}

/** What the request bodies of this instance may weigh together; the one place that counts them. */
export class BodyBudget {
  #held = 0

  /** Bytes held now. */
  get held(): number {
    return this.#held
  }

  open(): BodyShare {
    let own = 0
    let closed = false
    return {
      take: (bytes, limit) => {
        if (closed || this.#held + bytes > limit) return false
        this.#held += bytes
        own += bytes
        return true
      },
      give: (bytes) => {
        if (closed) return
        this.#held -= bytes
        own -= bytes
      },
      [Symbol.dispose]: () => {
        closed = true // a chunk that comes after the end counts for nobody
        this.#held -= own
        own = 0
      },
    }
  }
}
