import type { Clock } from './clock.ts'

/** Runs one task for many requests: a request while the task is due is served by that run, which an earlier time brings forward. */
export class Coalescer {
  readonly #clock: Clock
  readonly #run: () => void
  #due: { readonly at: number; readonly cancel: () => void } | null = null

  constructor(clock: Clock, run: () => void) {
    this.#clock = clock
    this.#run = run
  }

  /** Whether a run is due. */
  get isDue(): boolean {
    return this.#due !== null
  }

  /** Has the task run within `ms` milliseconds, and never inside of this call. */
  within(ms: number): void {
    this.by(this.#clock.now() + ms)
  }

  /** The same, by a time of the clock. */
  by(at: number): void {
    if (this.#due && this.#due.at <= at) return
    this.cancel()
    const cancel = this.#clock.after(at - this.#clock.now(), () => {
      this.#due = null
      this.#run()
    })
    this.#due = { at, cancel }
  }

  /** Drops the run that is due. */
  cancel(): void {
    this.#due?.cancel()
    this.#due = null
  }
}
