/** Older samples count for less by this much each. */
const forgetting = 0.98
/** The prior weighs as much as so many samples of variance 1 (streams squared). */
const priorWeight = 20

/**
 * Fits how much one more stream slows the others of a runner: the beta of sheet routing.md §2.2. A line through
 * (other streams, seconds per token against the estimate); its slope over its intercept, so that an estimate which is
 * off by a factor does no harm.
 */
export class Slowdown {
  readonly #prior: number
  #weight = 0
  #meanX = 0
  #meanY = 0
  #varianceX = 0
  #covariance = 0

  constructor(prior: number) {
    this.#prior = prior
  }

  /** @param others streams beside it. @param ratio its seconds per token, over the estimate for a lone stream. */
  add(others: number, ratio: number): void {
    this.#weight = this.#weight * forgetting + 1
    const [dx, dy] = [others - this.#meanX, ratio - this.#meanY]
    this.#meanX += dx / this.#weight
    this.#meanY += dy / this.#weight
    this.#varianceX = this.#varianceX * forgetting + dx * (others - this.#meanX)
    this.#covariance = this.#covariance * forgetting + dx * (ratio - this.#meanY)
  }

  get perStream(): number {
    if (this.#varianceX <= 0) return this.#prior
    const slope = this.#covariance / this.#varianceX
    const intercept = this.#meanY - slope * this.#meanX
    const fitted = intercept > 0 ? Math.min(1, Math.max(0, slope / intercept)) : this.#prior
    return (priorWeight * this.#prior + this.#varianceX * fitted) / (priorWeight + this.#varianceX)
  }
}
