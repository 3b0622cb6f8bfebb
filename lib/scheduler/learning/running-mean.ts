/** A mean and its number of samples, as stored. */
export interface MeanRecord {
  readonly mean: number
  readonly count: number
}

/** A mean that forgets: exact for the first `memory` samples; each later sample weighs 1/`memory`. */
export class RunningMean {
  readonly #memory: number
  #mean = 0
  #count = 0

  constructor(memory: number) {
    this.#memory = memory
  }

  get count(): number {
    return this.#count
  }

  add(sample: number): void {
    this.#count = Math.min(this.#count + 1, this.#memory)
    this.#mean += (sample - this.#mean) / this.#count
  }

  /** The mean, drawn towards a prior that counts as `weight` samples. */
  shrunk(prior: number, weight: number): number {
    return (weight * prior + this.#count * this.#mean) / (weight + this.#count)
  }

  /** The mean alone, or the prior when there is no sample. */
  or(prior: number): number {
    return this.#count === 0 ? prior : this.#mean
  }

  record(): MeanRecord {
    return { mean: this.#mean, count: this.#count }
  }

  restore({ mean, count }: MeanRecord): void {
    if (!Number.isFinite(mean) || !(count > 0)) return
    this.#mean = mean
    this.#count = Math.min(count, this.#memory)
  }
}
