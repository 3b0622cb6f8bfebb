import type { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'

/** The longest pause a node may ask for, in milliseconds. */
const maxRetryAfterMs = 60_000

interface BackPressureOptions {
  readonly clock: Clock
  readonly backoff: Backoff
  /** A request may go to the node again. */
  readonly resumed: () => void
  /** The node answered well for the first time since it said that it was busy. */
  readonly relieved: () => void
}

/**
 * A node that said it is busy gets no request for a while, which grows as long as it says so; then one at a time, at
 * most one in each such while, until it answers well. Busy is not ill health: the breaker is not told.
 */
export class BackPressure {
  readonly #options: BackPressureOptions
  /** `probing`: a request was sent after the pause, and nothing is known of it yet. */
  #phase: 'free' | 'paused' | 'ready' | 'probing' = 'free'
  #until = 0
  #cancelTimer: () => void = () => {}

  constructor(options: BackPressureOptions) {
    this.#options = options
  }

  /** Whether a request may go to the node now. */
  get admits(): boolean {
    return this.#phase === 'free' || this.#phase === 'ready'
  }

  /** Whether nothing was heard of it since the last good answer. */
  get isFree(): boolean {
    return this.#phase === 'free'
  }

  /**
   * The node said 503 busy or 429.
   *
   * @param retryAfterMs how long it asked to be left alone, in milliseconds; 60 s at most are granted.
   */
  busy(retryAfterMs: number): void {
    const { clock, backoff } = this.#options
    const askedMs = Math.min(retryAfterMs, maxRetryAfterMs)
    // Requests that were under way together are refused together: that is one sign, not many.
    const ownMs = this.#phase === 'paused' ? this.#until - clock.now() : backoff.next()
    this.#wait('paused', Math.max(askedMs, ownMs))
  }

  /** A request will go to the node. */
  reserve(): void {
    if (this.#phase === 'ready') this.#wait('probing', this.#options.backoff.repeat())
  }

  /** A request was answered well. */
  recordSuccess(): void {
    // While paused it is the late answer of an older request, which says nothing of now.
    if (this.#phase === 'free' || this.#phase === 'paused') return
    this.stop()
    this.#options.backoff.reset()
    this.#options.relieved()
  }

  /** Ends its timer, and the pause. */
  stop(): void {
    this.#cancelTimer()
    this.#phase = 'free'
  }

  #wait(phase: 'paused' | 'probing', ms: number): void {
    const { clock, resumed } = this.#options
    this.#phase = phase
    this.#until = clock.now() + ms
    this.#cancelTimer()
    this.#cancelTimer = clock.after(ms, () => {
      this.#phase = 'ready'
      resumed()
    })
  }
}
