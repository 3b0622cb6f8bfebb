/** What the shares of one budget hold together. */
interface Sum {
  held: number
}

/** One request's part of the budget. Disposing it gives back all it took, once. */
export class BodyShare implements Disposable {
  readonly #sum: Sum
  #own = 0
  #closed = false

  constructor(sum: Sum) {
    this.#sum = sum
  }

  /** Takes `bytes` more, unless all shares together would then hold more than `limit`. Returns whether it did. */
  take(bytes: number, limit: number): boolean {
    if (this.#closed || this.#sum.held + bytes > limit) return false
    this.#sum.held += bytes
    this.#own += bytes
    return true
  }

  /** Gives back `bytes` that it took. */
  give(bytes: number): void {
    if (this.#closed) return
    this.#sum.held -= bytes
    this.#own -= bytes
  }

  [Symbol.dispose](): void {
    this.#closed = true // a chunk that comes after the end counts for nobody
    this.#sum.held -= this.#own
    this.#own = 0
  }
}

/** What the request bodies of this instance may weigh together; the one place that counts them. */
export class BodyBudget {
  readonly #sum: Sum = { held: 0 }

  /** Bytes held now. */
  get held(): number {
    return this.#sum.held
  }

  open(): BodyShare {
    return new BodyShare(this.#sum)
  }
}
