import type { Clock } from '../clock.ts'

/**
 * For how long timers of this process come late while it watches: a busy event loop, a starved or stopped process. What a
 * process missed meanwhile says nothing about the others.
 */
export class LatenessWatch {
  readonly #clock: Clock
  readonly #tickMs: number
  #lateMs = 0
  #dueAt = 0
  #cancel: () => void = () => {}

  /** @param tickMs between two looks at the time; shorter stretches than this are not noticed. */
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
