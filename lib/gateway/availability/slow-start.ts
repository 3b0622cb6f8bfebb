import type { Clock } from '../../shared/clock.ts'

/** Steps until a node is warm: 30 s with the default step (docs/routing.md#guard-rails). */
const mostSteps = 6

interface SlowStartOptions {
  readonly clock: Clock
  /** Milliseconds per step; 0 for no slow start. */
  readonly stepMs: number
  /** Slots of a runner when the node is warm. */
  readonly full: () => number
  /** Called when there are more slots than before. */
  readonly stepped: () => void
}

/**
 * Warms up a node that is back: one slot per runner at first, more with each step. A node with many slots gets
 * several per step: with one per step, a node of a hundred would take eight minutes.
 */
export class SlowStart {
  readonly #options: SlowStartOptions
  #allowed = Number.POSITIVE_INFINITY
  #cancelTimer: () => void = () => {}

  constructor(options: SlowStartOptions) {
    this.#options = options
  }

  /** Slots per runner that may be used now; infinite when the node is warm. */
  get allowed(): number {
    return this.#allowed
  }

  /** The node is back. */
  begin(): void {
    if (this.#options.stepMs > 0) this.#allow(1)
  }

  /** Ends the timer and the slow start. */
  stop(): void {
    this.#cancelTimer()
    this.#allowed = Number.POSITIVE_INFINITY
  }

  #allow(slots: number): void {
    const { clock, stepMs, full, stepped } = this.#options
    this.stop()
    if (slots >= full()) return
    this.#allowed = slots
    this.#cancelTimer = clock.after(stepMs, () => {
      this.#allow(slots + Math.max(1, Math.ceil((full() - 1) / mostSteps)))
      stepped()
    })
  }
}
