import type { Clock } from '../shared/clock.ts'

/** Retries a quiet instance may always make, per second. */
const perSecond = 3
/** Retries a busy one may make, per request. */
const perRequest = 0.1
/** What may be saved up: all requests of a full node that just died. */
const most = 100

/**
 * The retry budget: a token bucket that every request fills a little, so that retries are at most a tenth of the requests
 * however many nodes fail at once, and cannot turn a brown-out into a storm (sheet reliability-security.md P12).
 */
export class RetryBudget {
  readonly #clock: Clock
  #tokens = most
  #filledAt: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#filledAt = clock.now()
  }

  /** A request came in. */
  earn(): void {
    this.#tokens = Math.min(most, this.#tokens + perRequest)
  }

  /** Whether there is a retry in it. */
  allows(): boolean {
    const now = this.#clock.now()
    this.#tokens = Math.min(most, this.#tokens + ((now - this.#filledAt) / 1000) * perSecond)
    this.#filledAt = now
    return this.#tokens >= 1
  }

  /** Takes one retry out of it; false when there is none. */
  spend(): boolean {
    if (!this.allows()) return false
    this.#tokens--
    return true
  }
}
