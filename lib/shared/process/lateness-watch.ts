import type { Clock } from '../clock.ts'

/**
 * Sums up how late the timers of this process fire: its event loop is busy, or the process starved or stopped. Messages that
 * it missed meanwhile say nothing about other processes.
 */
export class LatenessWatch {
  readonly #clock: Clock
  readonly #tickMs: number
  #lateMs = 0
  #dueAt = 0
  #cancel: () => void = () => {}

  /** @param tickMs milliseconds between two ticks; shorter delays are not noticed */
  constructor(clock: Clock, tickMs: number) {
    this.#clock = clock
    this.#tickMs = tickMs
    this.#tick()
  }

  /** Milliseconds so far, of all ticks together. */
  get lateMs(): number {
    return this.#lateMs + Math.max(0, this.#clock.now() - this.#dueAt)
  }

  stop(): void {
    this.#cancel()
  }

  #tick(): void {
    this.#dueAt = this.#clock.now() + this.#tickMs
    this.#cancel = this.#clock.after(this.#tickMs, () => {
      this.#lateMs = this.lateMs
      this.#tick()
    })
  }
}
