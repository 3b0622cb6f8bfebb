import type { Clock } from '../../shared/clock.ts'
import { invariant } from './invariant.ts'

/**
 * The time of a simulation. Its unit is the simulation's own: every duration that the model is given has the same unit
 * (milliseconds behind sockets, seconds in a rehearsal).
 */
export type ModelClock = Pick<Clock, 'now' | 'after'>

/** Timers of Node count 32 bits of milliseconds. A longer keep-alive gets no timer: it ends with the process. */
const longestTimer = 2 ** 31 - 1

export interface ModelRunnerOptions {
  readonly clock: ModelClock
  /** Two runners of one key never exist at the same time. */
  readonly key: string
  readonly name: string
  /** GPU memory that it holds from the start of its load until it has been given back. */
  readonly memory: number
  /** Until a request brings another. */
  readonly keepAlive: number
  /** The runner is idle and its keep-alive is over. */
  readonly onExpired: () => void
}

/**
 * A loaded model (docs/ollama.md#scheduling). It counts its requests. When the last one ends, it starts its keep-alive timer,
 * or expires at once when its keep-alive is 0.
 */
export class ModelRunner {
  readonly #options: ModelRunnerOptions
  #requests = 0
  #keepAlive: number
  #expiresAt: number | null = null
  #cancelTimer: () => void = () => {}
  #crashed = false

  constructor(options: ModelRunnerOptions) {
    this.#options = options
    this.#keepAlive = options.keepAlive
  }

  get key(): string {
    return this.#options.key
  }

  get name(): string {
    return this.#options.name
  }

  get memory(): number {
    return this.#options.memory
  }

  get idle(): boolean {
    return this.#requests === 0
  }

  /** Its process is gone: every request that still computes on it fails. */
  get crashed(): boolean {
    return this.#crashed
  }

  get keepAlive(): number {
    return this.#keepAlive
  }

  /** Time of its expiry: now + keep-alive until the first request ends; the last deadline while it is busy. */
  get expiresAt(): number {
    return this.#expiresAt ?? this.#options.clock.now() + this.#keepAlive
  }

  /**
   * A request begins.
   * @param keepAlive replaces the runner's, even while the runner is marked to be evicted: ollama #17408. Null keeps it.
   */
  enter(keepAlive: number | null): void {
    this.#requests++
    this.#cancelTimer()
    if (keepAlive !== null) this.#keepAlive = keepAlive
  }

  /** A request ended, or its client left. */
  leave(): void {
    this.#requests--
    invariant(this.#requests >= 0, 'a request ended twice')
    if (!this.idle || this.#crashed) return
    const { clock, onExpired } = this.#options
    if (this.#keepAlive <= 0) {
      onExpired()
      return
    }
    this.#expiresAt = clock.now() + this.#keepAlive
    if (this.#keepAlive <= longestTimer) this.#cancelTimer = clock.after(this.#keepAlive, onExpired)
  }

  /** Marks the runner to leave: at once when it is idle, else when its last request ends. Until then it takes requests. */
  evict(): void {
    this.#cancelTimer()
    this.#keepAlive = 0
    if (this.idle) this.#options.onExpired()
  }

  /** Its process dies. */
  crash(): void {
    this.#crashed = true
    this.#cancelTimer()
  }

  /** Ends the timer. Safe to call twice. */
  stop(): void {
    this.#cancelTimer()
  }
}
