import { orAborted } from '../../shared/abort.ts'
import type { Clock } from '../../shared/clock.ts'

/** Retries an instance may always make, per second. */
const perSecond = 3
/** Retries a busy one may make, per request. */
const perRequest = 0.1
/**
 * Retries that may be saved up and spent at once, or a second's if that is more: no minutes of a busy time, since far fewer
 * requests may come from then on. Up to 150 requests a second that makes a tenth of them and 45 at most over any ten seconds,
 * which is within 1.2 attempts a request (P12) from 45 a second; the others wait for their turn.
 */
const mostSaved = 5 * perSecond
/** Seconds of it that may be waited for: as long as for a slot. */
const waitedSeconds = 60
/** Milliseconds over which requests are counted. */
const stepMs = 1000
/** Milliseconds between two looks at the budget on behalf of those who wait for it. */
const pollMs = 100

/**
 * The retry budget: a token bucket that fills with a tenth of the requests, and with three a second at least. However
 * many nodes fail at once, retries cannot turn a brown-out into a storm (docs/reliability.md#retries). A retry that
 * comes too early waits for its token, in turn, since a late answer is better than none; more than a minute will pay for
 * are refused at once.
 */
export class RetryBudget {
  readonly #clock: Clock
  #tokens = mostSaved
  #requests = 0
  #filledAt: number
  /** Retries it gains in a second. */
  #rate = perSecond
  readonly #waiting: (() => void)[] = []

  constructor(clock: Clock) {
    this.#clock = clock
    this.#filledAt = clock.now()
  }

  /** A request came in. */
  recordRequest(): void {
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

  /** Takes one as soon as there is one; resolves to false when that would take too long. @throws the signal's reason. */
  async wait(signal: AbortSignal): Promise<boolean> {
    if (this.#waiting.length === 0 && this.spend()) return true
    if (this.#waiting.length >= this.#rate * waitedSeconds) return false
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.push(resolve)
    if (this.#waiting.length === 1) this.#grantWaiting()
    try {
      await orAborted(promise, signal)
      return true
    } catch (error) {
      const at = this.#waiting.indexOf(resolve)
      if (at >= 0) this.#waiting.splice(at, 1)
      throw error
    }
  }

  #grantWaiting(): void {
    while (this.#waiting.length > 0 && this.spend()) this.#waiting.shift()?.()
    if (this.#waiting.length > 0) this.#clock.after(pollMs, () => this.#grantWaiting())
  }

  #fill(elapsedMs: number): void {
    const seconds = elapsedMs / 1000
    const rate = Math.max(perSecond, (this.#requests * perRequest) / seconds)
    this.#rate = rate
    this.#tokens = Math.min(Math.max(mostSaved, rate), this.#tokens + rate * seconds)
    this.#filledAt += elapsedMs
    this.#requests = 0
  }
}
