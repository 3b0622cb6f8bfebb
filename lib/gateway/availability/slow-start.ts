import type { Clock } from '../../shared/clock.ts'

/** A node is warm after so many steps: 30 s with the usual ones (docs/routing.md#guard-rails). */
const mostSteps = 6

interface SlowStartOptions {
  readonly clock: Clock
  /** Milliseconds per step; 0 for no slow start. */
  readonly stepMs: number
  /** The slots of a runner once it is warm. */
  readonly full: () => number
  /** There are more slots than before. */
  readonly stepped: () => void
}

/**
 * A node that returns is warmed, not flooded: one slot per runner at first, and one more with each step. A node of many
 * slots gets several a step: one at a time, a node of a hundred would be of little use for eight minutes.
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

  /** The node has returned. */
  begin(): void {
    if (this.#options.stepMs > 0) this.#allow(1)
  }

  /** Ends its timer, and the slow start. */
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
