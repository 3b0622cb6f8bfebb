import { ModelRunner } from '../ollama-model/model-runner.ts'
import { type HeldSlot, RunnerSlots } from '../ollama-model/runner-slots.ts'
import type { SharedGpu, Stream } from '../ollama-model/shared-gpu.ts'
import type { NodeAttempt } from './attempt.ts'
import { type ConversationPrompt, conversationPrompts } from './conversation-prompts.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import type { Timeline } from './timeline.ts'

/** Memory of a token of context: it grows as the root of the weights, 128 KiB with 5 GB, near 320 KiB with 40 GB. */
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
  readonly #slots: RunnerSlots<ConversationPrompt>
  readonly #waiting = new Set<NodeAttempt>()
  readonly #running = new Set<NodeAttempt>()

  constructor(options: StreamRunnerOptions) {
    const { timeline, model, node, keepAlive, onExpired } = options
    const { name } = model
    super({ clock: timeline.clock, key: name, name, memory: footprint(model), keepAlive, onExpired })
    this.#options = options
    this.#slots = new RunnerSlots(node.slots, conversationPrompts, {
      tokens: node.promptCache / contextBytes(model.size),
      prompts: Number.POSITIVE_INFINITY,
    })
  }

  /** Requests that have not ended. */
  get requests(): number {
    return this.#waiting.size + this.#running.size
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
    this.#waiting.add(attempt)
    let leaveQueue = () => {}
    attempt.leave = () => {
      leaveQueue()
      this.#waiting.delete(attempt)
      this.leave()
    }
    leaveQueue = this.#slots.enter(promptOf(attempt, attempt.options.promptTokens), (slot) => {
      this.#waiting.delete(attempt)
      this.#begin(attempt, slot)
    })
  }

  /** Ends and returns all attempts. */
  abandon(): NodeAttempt[] {
    const left = [...this.#running, ...this.#waiting]
    for (const attempt of [...this.#waiting, ...this.#running]) attempt.hangUp()
    return left
  }

  #begin(attempt: NodeAttempt, slot: HeldSlot<ConversationPrompt>): void {
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
      slot.release(promptOf(attempt, tokens))
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

function promptOf(
  { options: { conversation, reusableTokens } }: NodeAttempt,
  tokens: number,
): ConversationPrompt {
  return { conversation, reusableTokens, tokens }
}
