/** Each new sample multiplies the weight of the older ones by this factor. */
const forgetting = 0.98

interface SlopePrior {
  readonly slope: number
  /** The prior weighs as much as samples whose x have this sum of squared deviations. */
  readonly weight: number
  readonly least: number
  readonly most: number
}

/** Fits a line through samples. The value is slope over intercept, so a common factor of all samples cancels. */
export class RelativeSlope {
  readonly #prior: SlopePrior
  #weight = 0
  #meanX = 0
  #meanY = 0
  #varianceX = 0
  #covariance = 0
  #value: number

  constructor(prior: SlopePrior) {
    this.#prior = prior
    this.#value = prior.slope
  }

  add(x: number, y: number): void {
    this.#weight = this.#weight * forgetting + 1
    const dx = x - this.#meanX
    const dy = y - this.#meanY
    this.#meanX += dx / this.#weight
    this.#meanY += dy / this.#weight
    this.#varianceX = this.#varianceX * forgetting + dx * (x - this.#meanX)
    this.#covariance = this.#covariance * forgetting + dx * (y - this.#meanY)
    this.#value = this.#fit()
  }

  /** Stored: it is read far more often than it changes. */
  get value(): number {
    return this.#value
  }

  #fit(): number {
    const { slope: prior, weight, least, most } = this.#prior
    if (this.#varianceX <= 0) return prior
    const slope = this.#covariance / this.#varianceX
    const intercept = this.#meanY - slope * this.#meanX
    const fitted = intercept > 0 ? Math.min(most, Math.max(least, slope / intercept)) : prior
    return (weight * prior + this.#varianceX * fitted) / (weight + this.#varianceX)
  }
}
