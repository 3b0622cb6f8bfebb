import type { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'

/** The longest pause that a node may ask for, in milliseconds. */
const maxRetryAfterMs = 60_000

interface BackPressureOptions {
  readonly clock: Clock
  readonly backoff: Backoff
  /** Called when a request may go to the node again. */
  readonly resumed: () => void
  /** Called at the first good response after the node was busy. */
  readonly relieved: () => void
}

/**
 * Pauses requests to a node that responded "busy". The pause grows while the node stays busy; after it, one request
 * at a time is sent, at most one per pause, until a good response. Busy is not unhealthy: the breaker does not count
 * it.
 */
export class BackPressure {
  readonly #options: BackPressureOptions
  /** `probing`: a request was sent after the pause, and its result is not known yet. */
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

  /** Whether the node has not been busy since its last good response. */
  get isFree(): boolean {
    return this.#phase === 'free'
  }

  /**
   * The node responded 503 busy or 429.
   *
   * @param retryAfterMs the pause that it asked for, in milliseconds; 60 s at most count.
   */
  busy(retryAfterMs: number): void {
    const { clock, backoff } = this.#options
    const askedMs = Math.min(retryAfterMs, maxRetryAfterMs)
    // Requests in flight together are refused together: that counts once.
    const ownMs = this.#phase === 'paused' ? this.#until - clock.now() : backoff.next()
    this.#wait('paused', Math.max(askedMs, ownMs))
  }

  /** A request is about to be sent. */
  reserve(): void {
    if (this.#phase === 'ready') this.#wait('probing', this.#options.backoff.repeat())
  }

  /** A request got a good response. */
  recordSuccess(): void {
    // During a pause this is the late response of an older request, which says nothing about now.
    if (this.#phase === 'free' || this.#phase === 'paused') return
    this.stop()
    this.#options.backoff.reset()
    this.#options.relieved()
  }

  /** Ends the timer and the pause. */
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
