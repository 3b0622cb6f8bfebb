import { orAborted } from '../../shared/abort.ts'
import type { Clock } from '../../shared/clock.ts'

/** Retries per second that an instance may always make. */
const perSecond = 3
/** Retries per request that a busy instance may make. */
const perRequest = 0.1
/**
 * Retries that may be saved and spent at once, or those of one second if that is more. Savings of minutes would allow
 * too many when traffic drops. In ten seconds the budget allows 30 retries or a tenth of the requests, whichever is more,
 * and 15 saved ones. From 45 requests a second on that is at most 1.2 attempts per request. Other retries wait.
 */
const mostSaved = 5 * perSecond
/** Seconds of budget that may be waited for: as long as for a slot. */
const waitedSeconds = 60
/** Milliseconds over which requests are counted. */
const stepMs = 1000
/** Milliseconds between two checks of the budget for waiting retries. */
const pollMs = 100

/**
 * The retry budget: a token bucket that fills with a tenth of the requests, and with three a second at least. However
 * many nodes fail at once, retries cannot overload the rest (docs/reliability.md#retries). A retry without a token
 * waits for one, in order of arrival; a retry that would wait longer than a minute is refused at once.
 */
export class RetryBudget {
  readonly #clock: Clock
  #tokens = mostSaved
  #requests = 0
  #filledAt: number
  /** Retries gained per second. */
  #rate = perSecond
  readonly #waiting: (() => void)[] = []

  constructor(clock: Clock) {
    this.#clock = clock
    this.#filledAt = clock.now()
  }

  /** Counts a request. */
  recordRequest(): void {
    this.#requests++
  }

  /** Whether a retry is allowed now. */
  allows(): boolean {
    const elapsedMs = this.#clock.now() - this.#filledAt
    if (elapsedMs >= stepMs) this.#fill(elapsedMs)
    return this.#tokens >= 1
  }

  /** Takes a retry; false when there is none. */
  spend(): boolean {
    if (!this.allows()) return false
    this.#tokens--
    return true
  }

  /** Takes a retry when there is one; resolves to false when that would take too long. @throws the signal's reason. */
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
