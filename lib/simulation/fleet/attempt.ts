import type { Timings } from '../../scheduler/events.ts'
import type { RunnerRequest } from '../ollama-model/runner-scheduler.ts'

/** A request as a node gets it. Exactly one of `onEnd` and `onBusy` is called, once, unless it is cancelled. */
export interface AttemptOptions {
  readonly model: string
  /** 0: it only loads the model. */
  readonly promptTokens: number
  readonly outputTokens: number
  readonly conversation: number
  /** Tokens of its prompt that were there before in its conversation. */
  readonly reusableTokens: number
  /** How long the model stays in memory after it; null: the node's own time. */
  readonly keepAlive: number | null
  onFirstToken(): void
  /** With what Ollama says of it; null when it failed. */
  onEnd(timings: Timings | null): void
  /** The node's queue is full. */
  onBusy(): void
}

/** How far an attempt is: Ollama's measurements are differences of these times. */
export class NodeAttempt implements RunnerRequest {
  readonly options: AttemptOptions
  readonly #arrivedAt: number
  #admittedAt = 0
  #startedAt = 0
  #firstTokenAt = 0
  /** Takes it out of where it is; null before and after. */
  leave: (() => void) | null = null
  /** Tokens written so far. */
  written: () => number = () => 0
  #left = false
  /** Of its prompt, those that need not be read. */
  cachedTokens = 0

  constructor(options: AttemptOptions, now: number) {
    this.options = options
    this.#arrivedAt = now
  }

  /** Its model. */
  get key(): string {
    return this.options.model
  }

  get keepAlive(): number | null {
    return this.options.keepAlive
  }

  get left(): boolean {
    return this.#left
  }

  /** Its caller is gone: nothing more happens to it, wherever it was. */
  hangUp(): void {
    this.#left = true
    this.leave?.()
    this.leave = null
  }

  /** Its model is in memory; what it waited is Ollama's `load_duration`. */
  admitted(now: number): void {
    this.#admittedAt = now
  }

  /** It has a slot. */
  started(now: number, cachedTokens: number): void {
    this.#startedAt = now
    this.cachedTokens = cachedTokens
  }

  firstToken(now: number): void {
    this.#firstTokenAt = now
    this.options.onFirstToken()
  }

  ended(now: number): void {
    const { promptTokens, outputTokens } = this.options
    this.options.onEnd({
      total: now - this.#arrivedAt,
      load: this.#admittedAt - this.#arrivedAt,
      promptEval: this.#firstTokenAt - this.#startedAt,
      eval: now - this.#firstTokenAt,
      promptTokens,
      outputTokens,
    })
  }

  /** It only loaded the model. */
  loaded(now: number): void {
    const load = now - this.#arrivedAt
    this.options.onEnd({ total: load, load, promptEval: 0, eval: 0, promptTokens: 0, outputTokens: 0 })
  }
}
