import type { Clock } from '../shared/clock.ts'

/** Retries an instance may always make, per second. */
const perSecond = 3
/** Retries a busy one may make, per request. */
const perRequest = 0.1
/** Seconds of it that may be saved up: the requests of a node that just died go elsewhere at once. */
const savedSeconds = 10
/** Milliseconds over which requests are counted. */
const stepMs = 1000

/**
 * The retry budget: a token bucket that fills with a tenth of the requests, and with three a second at least. However
 * many nodes fail at once, retries cannot turn a brown-out into a storm (sheet reliability-security.md P12).
 */
export class RetryBudget {
  readonly #clock: Clock
  #tokens = perSecond * savedSeconds
  #requests = 0
  #filledAt: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#filledAt = clock.now()
  }

  /** A request came in. */
  earn(): void {
    this.#requests++
  }

  /** Whether there is a retry in it. */
  allows(): boolean {
    const elapsedMs = this.#clock.now() - this.#filledAt
    if (elapsedMs >= stepMs) this.#fill(elapsedMs)
    return this.#tokens >= 1
  }

  /** Takes one retry out of it; false when there is none. */
  spend(): boolean {
    if (!this.allows()) return false
    this.#tokens--
    return true
  }

  #fill(elapsedMs: number): void {
    const seconds = elapsedMs / 1000
    const rate = Math.max(perSecond, (this.#requests * perRequest) / seconds)
    this.#tokens = Math.min(rate * savedSeconds, this.#tokens + rate * seconds)
    this.#filledAt += elapsedMs
    this.#requests = 0
  }
}
