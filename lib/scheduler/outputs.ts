/** Fewer tokens than these are never expected of a request that still runs (sheet routing.md §2.2). */
export const fewestTokens = 4

/** How long answers are: the last of them, as a sample. Numbers of tokens. */
export class Outputs {
  readonly #keep: number
  readonly #prior: number
  readonly #ring: number[] = []
  #next = 0
  #mean: number | null = null

  constructor(keep: number, prior: number) {
    this.#keep = keep
    this.#prior = prior
  }

  get count(): number {
    return this.#ring.length
  }

  add(tokens: number): void {
    this.#ring[this.#next] = tokens
    this.#next = (this.#next + 1) % this.#keep
    this.#mean = null
  }

  /** Tokens still to come of an answer that has so many: the mean rest of those that were longer. */
  rest(written: number): number {
    if (written > 0) return this.#rest(written)
    this.#mean ??= this.#rest(0)
    return this.#mean
  }

  record(): readonly number[] {
    return [...this.#ring]
  }

  restore(tokens: readonly number[]): void {
    for (const count of tokens) if (count >= 0 && count < Number.POSITIVE_INFINITY) this.add(count)
  }

  #rest(written: number): number {
    let longer = 0
    let sum = 0
    for (const tokens of this.#ring) {
      if (tokens <= written) continue
      longer++
      sum += tokens - written
    }
    return Math.max(fewestTokens, longer === 0 ? this.#prior - written : sum / longer)
  }
}
