import { ModelRunner } from '../ollama-model/model-runner.ts'
import type { NodeAttempt } from './attempt.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import type { SharedGpu, Stream } from './gpu.ts'
import { RehearsedPromptCache } from './prompt-cache.ts'
import type { Timeline } from './timeline.ts'

/** What a token of context takes grows as the root of the weights: 128 KiB with 5 GB, near 320 KiB with 40 GB. */
const contextBytes = (weights: number) => 128 * 1024 * Math.sqrt(weights / 5e9)

interface StreamRunnerOptions {
  readonly timeline: Timeline
  readonly gpu: SharedGpu
  readonly plan: FleetPlan
  readonly node: PlannedNode
  /** The node's true speed. */
  readonly speed: number
  readonly model: PlannedModel
  readonly keepAlive: number
  readonly onExpired: () => void
}

/** A loaded model of a rehearsed node: its slots compute streams on the node's GPU. Times are seconds, memory is bytes. */
export class StreamRunner extends ModelRunner {
  readonly #options: StreamRunnerOptions
  readonly #cache: RehearsedPromptCache
  readonly #waiting: NodeAttempt[] = []
  readonly #running = new Set<NodeAttempt>()

  constructor(options: StreamRunnerOptions) {
    const { timeline, model, node, keepAlive, onExpired } = options
    const { name } = model
    super({ clock: timeline.clock, key: name, name, memory: footprint(model), keepAlive, onExpired })
    this.#options = options
    this.#cache = new RehearsedPromptCache(node.slots, node.promptCache / contextBytes(model.size))
  }

  /** Serves an attempt that has entered. */
  take(attempt: NodeAttempt): void {
    const { now } = this.#options.timeline
    attempt.admitted(now)
    if (attempt.options.promptTokens === 0) {
      attempt.loaded(now)
      this.leave()
      return
    }
    attempt.leave = () => this.#leaveLine(attempt)
    this.#waiting.push(attempt)
    this.#fill()
  }

  /** Ends and returns all attempts. */
  abandon(): NodeAttempt[] {
    const left = [...this.#running, ...this.#waiting]
    for (const _ of this.#waiting.splice(0)) this.leave()
    for (const attempt of this.#running) attempt.hangUp()
    return left
  }

  #leaveLine(attempt: NodeAttempt): void {
    this.#waiting.splice(this.#waiting.indexOf(attempt), 1)
    this.leave()
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

  #begin(attempt: NodeAttempt, slot: NonNullable<ReturnType<RehearsedPromptCache['take']>>): void {
    const { timeline, gpu, plan, speed, model } = this.#options
    const { promptTokens, outputTokens } = attempt.options
    const stream: Stream = {
      runner: this.name,
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
      this.leave()
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
