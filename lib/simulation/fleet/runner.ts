import type { RehearsedAttempt } from './attempt.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import type { RehearsedGpu, Stream } from './gpu.ts'
import { RehearsedPromptCache } from './prompt-cache.ts'
import type { Timeline } from './timeline.ts'

/** What a token of context takes grows as the root of the weights: 128 KiB with 5 GB, near 320 KiB with 40 GB. */
const contextBytes = (weights: number) => 128 * 1024 * Math.sqrt(weights / 5e9)

interface RunnerOptions {
  readonly timeline: Timeline
  readonly gpu: RehearsedGpu
  readonly plan: FleetPlan
  readonly node: PlannedNode
  /** The node's true speed. */
  readonly speed: number
  readonly model: PlannedModel
  /** Nobody uses it any more. */
  readonly onIdle: () => void
}

/** A model in memory: so many requests at once, the others wait in line, without a limit. */
export class RehearsedRunner {
  readonly model: string
  readonly memory: number
  /** Seconds it stays in memory once idle; 0: it is to go. */
  keepAlive: number
  /** Cancels its going. */
  cancelExpiry: () => void = () => {}
  readonly #options: RunnerOptions
  readonly #cache: RehearsedPromptCache
  readonly #waiting: RehearsedAttempt[] = []
  readonly #running = new Set<RehearsedAttempt>()

  constructor(options: RunnerOptions, keepAlive: number) {
    const { model, node } = options
    this.#options = options
    this.model = model.name
    this.memory = footprint(model)
    this.keepAlive = keepAlive
    this.#cache = new RehearsedPromptCache(node.slots, node.promptCache / contextBytes(model.size))
  }

  get isIdle(): boolean {
    return this.#running.size + this.#waiting.length === 0
  }

  use(attempt: RehearsedAttempt): void {
    const { timeline } = this.#options
    this.cancelExpiry()
    this.keepAlive = attempt.options.keepAlive ?? this.keepAlive
    attempt.admitted(timeline.now)
    if (attempt.options.promptTokens === 0) {
      attempt.loaded(timeline.now)
      if (this.isIdle) this.#options.onIdle()
      return
    }
    attempt.leave = () => this.#leaveLine(attempt)
    this.#waiting.push(attempt)
    this.#fill()
  }

  /** Everyone who is here, and is not any more. */
  abandon(): RehearsedAttempt[] {
    const left = [...this.#running, ...this.#waiting]
    this.#waiting.length = 0
    for (const attempt of this.#running) attempt.hangUp()
    return left
  }

  #leaveLine(attempt: RehearsedAttempt): void {
    this.#waiting.splice(this.#waiting.indexOf(attempt), 1)
    if (this.isIdle) this.#options.onIdle()
  }

  /** Gives free slots to those who wait longest. */
  #fill(): void {
    for (;;) {
      const [attempt] = this.#waiting
      if (!attempt) return
      const slot = this.#cache.take(attempt.options)
      if (!slot) return
      this.#waiting.shift()
      this.#begin(attempt, slot)
    }
  }

  #begin(attempt: RehearsedAttempt, slot: NonNullable<ReturnType<RehearsedPromptCache['take']>>): void {
    const { timeline, gpu, plan, speed, model } = this.#options
    const { promptTokens, outputTokens } = attempt.options
    const stream: Stream = {
      runner: this.model,
      prefill: (plan.prefill * speed) / model.size,
      decode: (plan.decode * speed) / model.size,
      isReading: true,
      newTokens: Math.max(1, promptTokens - slot.cachedTokens),
      outputTokens,
      onFirstToken: () => attempt.firstToken(timeline.now),
      onDone: () => {
        attempt.leave = null
        leave(promptTokens + outputTokens)
        attempt.ended(timeline.now)
      },
    }
    const leave = (tokens: number) => {
      this.#running.delete(attempt)
      slot.release(tokens, timeline.now)
      this.#fill()
      if (this.isIdle) this.#options.onIdle()
    }
    attempt.written = () => {
      gpu.settle()
      return Math.floor(outputTokens - stream.outputTokens)
    }
    attempt.leave = () => {
      gpu.remove(stream)
      leave(stream.isReading ? slot.cachedTokens : promptTokens)
    }
    this.#running.add(attempt)
    attempt.started(timeline.now, slot.cachedTokens)
    gpu.add(stream)
  }
}
