import type { Clock } from '../../../shared/clock.ts'
import type { ModelDefinition } from '../disk/models.ts'
import { invariant } from '../refusal.ts'
import type { Fingerprint } from './options.ts'
import { PromptBatches } from './prompt-batches.ts'
import { PromptCache } from './prompt-cache.ts'
import { Slots } from './slots.ts'

/** Timers count 32 bits: what is longer lasts as good as forever. */
const longestTimerMs = 2 ** 31 - 1

/** How a model is to be loaded: decided once per load. */
export interface RunnerShape {
  readonly model: ModelDefinition
  readonly fingerprint: Fingerprint
  /** Tokens of context per slot. */
  readonly ctx: number
  readonly parallel: number
  readonly sizeMiB: number
  readonly vramMiB: number
}

/**
 * A loaded model. It counts its requests and, when the last one ends, either starts its keep-alive timer or, marked to
 * go (keep-alive 0), leaves at once by calling `onExpired`.
 */
export class SimulatedRunner {
  readonly shape: RunnerShape
  readonly slots: Slots
  readonly prompts: PromptCache
  readonly batches = new PromptBatches()
  readonly #clock: Clock
  readonly #onExpired: () => void
  #requests = 0
  #keepAliveMs: number
  #expiresAt: number | null = null
  #cancelTimer: () => void = () => {}
  #crashed = false

  constructor(
    shape: RunnerShape,
    keepAliveMs: number,
    clock: Clock,
    onExpired: (runner: SimulatedRunner) => void,
  ) {
    this.shape = shape
    this.slots = new Slots(shape.parallel)
    this.prompts = new PromptCache(shape.model.kvMiBPer1kCtx)
    this.#keepAliveMs = keepAliveMs
    this.#clock = clock
    this.#onExpired = () => onExpired(this)
  }

  get idle(): boolean {
    return this.#requests === 0
  }

  /** Its process is gone: who still computes with it fails. */
  get crashed(): boolean {
    return this.#crashed
  }

  get keepAliveMs(): number {
    return this.#keepAliveMs
  }

  /** Clock milliseconds: now + keep-alive until the first request ends, the last deadline while busy. */
  get expiresAt(): number {
    return this.#expiresAt ?? this.#clock.now() + this.#keepAliveMs
  }

  /** How many times slower than with every layer in VRAM. */
  get slowdown(): number {
    const { model, sizeMiB, vramMiB } = this.shape
    return 1 + (model.cpuFactor - 1) * (1 - vramMiB / Math.max(sizeMiB, 1))
  }

  /**
   * A request begins. A keep-alive it brings replaces the runner's, even while the runner is marked to be evicted: that is
   * the resurrection of ollama #17408.
   */
  enter(keepAliveMs: number | null): void {
    this.#requests++
    this.#cancelTimer()
    if (keepAliveMs !== null) this.#keepAliveMs = keepAliveMs
  }

  /** A request ended, or its client left. */
  leave(): void {
    this.#requests--
    invariant(this.#requests >= 0, 'a request ended twice')
    if (!this.idle || this.#crashed) return
    if (this.#keepAliveMs <= 0) {
      this.#onExpired()
      return
    }
    this.#expiresAt = this.#clock.now() + this.#keepAliveMs
    if (this.#keepAliveMs <= longestTimerMs) {
      this.#cancelTimer = this.#clock.after(this.#keepAliveMs, this.#onExpired)
    }
  }

  /** Marks the runner to leave: at once when idle, else when its last request ends. */
  evict(): void {
    this.#cancelTimer()
    this.#keepAliveMs = 0
    if (this.idle) this.#onExpired()
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
