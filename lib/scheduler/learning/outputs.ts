/** Least expected remaining tokens of a running request (docs/routing.md#learning). */
export const fewestTokens = 4

/** A sample of the last answers' lengths, in tokens. */
export class Outputs {
  readonly #keep: number
  readonly #prior: number
  readonly #ring: number[] = []
  #next = 0
  /** Answers with tokens, and their sum: every request needs the mean. */
  #written = 0
  #sum = 0

  constructor(keep: number, prior: number) {
    this.#keep = keep
    this.#prior = prior
  }

  get count(): number {
    return this.#ring.length
  }

  add(tokens: number): void {
    this.#count(this.#ring[this.#next] ?? 0, -1)
    this.#count(tokens, 1)
    this.#ring[this.#next] = tokens
    this.#next = (this.#next + 1) % this.#keep
  }

  /** Expected remaining tokens of an answer that has so many: the mean rest of the longer ones. */
  rest(written: number): number {
    if (written === 0) return this.#mean(this.#written, this.#sum, 0)
    let longer = 0
    let sum = 0
    for (const tokens of this.#ring) {
      if (tokens <= written) continue
      longer++
      sum += tokens - written
    }
    return this.#mean(longer, sum, written)
  }

  record(): readonly number[] {
    return [...this.#ring]
  }

  restore(tokens: readonly number[]): void {
    for (const count of tokens) if (count >= 0 && Number.isSafeInteger(count)) this.add(count)
  }

  #count(tokens: number, times: number): void {
    if (!(tokens > 0)) return
    this.#written += times
    this.#sum += times * tokens
  }

  #mean(longer: number, sum: number, written: number): number {
    return Math.max(fewestTokens, longer === 0 ? this.#prior - written : sum / longer)
  }
}
