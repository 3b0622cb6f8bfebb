import type { Timings } from '../../scheduler/events.ts'
import type { RunnerRequest } from '../ollama-model/runner-scheduler.ts'

/** A request as a node gets it. Exactly one of `onEnd` and `onBusy` is called, once, unless its caller hangs up. */
export interface AttemptOptions {
  readonly model: string
  /** 0: it only loads the model. */
  readonly promptTokens: number
  readonly outputTokens: number
  readonly conversation: number
  /** Tokens of its prompt that were there before in its conversation. */
  readonly reusableTokens: number
  /** Seconds that the model stays in memory afterwards; null: the runner's own keep-alive. */
  readonly keepAlive: number | null
  onFirstToken(): void
  /** With Ollama's measurements; null when it failed. */
  onEnd(timings: Timings | null): void
  /** The node's queue is full. */
  onBusy(): void
}

/** The progress of an attempt: Ollama's measurements are differences of its times. */
export class NodeAttempt implements RunnerRequest {
  readonly options: AttemptOptions
  readonly #arrivedAt: number
  #admittedAt = 0
  #startedAt = 0
  #firstTokenAt = 0
  /** Takes it out of the queue or slot that it is in; null before and after. */
  leave: (() => void) | null = null
  /** Tokens written so far. */
  written: () => number = () => 0
  #left = false
  /** Tokens of its prompt that need not be read. */
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

  /** Its caller left: nothing more happens to it. */
  hangUp(): void {
    this.#left = true
    this.leave?.()
    this.leave = null
  }

  /** Its model is in memory. Its wait so far is Ollama's `load_duration`. */
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
