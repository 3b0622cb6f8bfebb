import type { Clock } from '../../../shared/clock.ts'

/**
 * The waits of one request. All end when its client leaves. One abort listener serves the whole request: a listener
 * for each token would cost more than the token.
 */
export class Pacer {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #interrupt: () => void = () => {}

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock
    this.#signal = signal
    signal.addEventListener('abort', () => this.#interrupt(), { once: true })
  }

  /** Resolves after `ms` milliseconds; rejects with the signal's reason when the client leaves first. One wait at a time. */
  wait(ms: number): Promise<void> {
    return this.until((done) => this.#clock.after(ms, done))
  }

  /**
   * Resolves when `begin`'s callback is called; rejects with the signal's reason when the client leaves first.
   * @param begin starts the wait and returns how to cancel it.
   */
  until(begin: (done: () => void) => () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#signal.aborted) return reject(this.#signal.reason)
      const giveUp = begin(resolve)
      this.#interrupt = () => {
        giveUp()
        reject(this.#signal.reason)
      }
    })
  }
}
