import type { Clock } from './clock.ts'
import type { Random } from './random.ts'

interface LoopOptions {
  readonly clock: Clock
  readonly random: Random
  /** Milliseconds between the end of one round and the start of the next; asked before each pause. */
  readonly periodMs: () => number
  /** Share of the period by which each pause varies, so that instances do not march in step. */
  readonly jitter?: number
  /** One round: look, decide, act. It handles its own errors: a rejection only ends that round. */
  readonly round: (signal: AbortSignal) => Promise<void>
}

/** A level-triggered control loop: rounds never overlap, and `poke` brings the next one forward. */
export class ControlLoop {
  readonly #options: LoopOptions
  #stopping: AbortController | null = null
  #running: Promise<void> = Promise.resolve()
  #cancelPause: () => void = () => {}
  #poked = false

  constructor(options: LoopOptions) {
    this.#options = options
  }

  /** Begins with a round at once. Safe to call twice. */
  start(): void {
    if (this.#stopping) return
    this.#stopping = new AbortController()
    const { signal } = this.#stopping
    // A round that an earlier `stop` aborted may still be ending: rounds never overlap.
    this.#running = this.#running.then(() => this.#run(signal))
  }

  /** Aborts the running round and waits for its end. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopping?.abort()
    this.#stopping = null
    this.#cancelPause()
    await this.#running
  }

  /** Starts the next round now, or right after the running round. */
  poke(): void {
    this.#poked = true
    this.#cancelPause()
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#poked = false
      await this.#options.round(signal).catch(() => {})
      if (!signal.aborted && !this.#poked) await this.#pause()
    }
  }

  #pause(): Promise<void> {
    const { clock, random, periodMs, jitter = 0.1 } = this.#options
    const ms = periodMs() * (1 + jitter * (2 * random() - 1))
    return new Promise((resolve) => {
      const cancel = clock.after(ms, resolve)
      this.#cancelPause = () => {
        cancel()
        resolve()
      }
    })
  }
}
