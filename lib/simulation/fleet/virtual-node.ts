import type { NodeFacts } from '../../scheduler/events.ts'
import { SharedGpu } from '../ollama-model/shared-gpu.ts'
import { type AttemptOptions, NodeAttempt } from './attempt.ts'
import { canHold } from './capacity.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import { NodeModels } from './node-models.ts'
import type { Timeline } from './timeline.ts'

/** A swap that a scheduler asked for. */
export interface OrderedSwap {
  readonly victims: readonly string[]
  readonly model: string
  /** With the seconds of the load; null when the swap failed. */
  onEnd(loadS: number | null): void
}

/** Seconds. Ollama's own keep-alive is five minutes; a model that a swap loaded stays longer. */
const orderedKeepAlive = 3600

/**
 * One node of the rehearsal (docs/ollama.md#scheduling, docs/routing.md#results): it answers requests
 * after the time that a real node takes, and loads and evicts models by itself for requests to models not in memory.
 */
export class VirtualNode {
  readonly plan: PlannedNode
  readonly #timeline: Timeline
  readonly #models: ReadonlyMap<string, PlannedModel>
  readonly #gpu: SharedGpu
  readonly #inMemory: NodeModels
  readonly #fleet: FleetPlan
  #speed: number
  #isUp = true

  /** @param speed its true speed, near to its plan's. */
  constructor(timeline: Timeline, fleet: FleetPlan, node: PlannedNode, speed: number) {
    this.plan = node
    this.#timeline = timeline
    this.#fleet = fleet
    this.#speed = speed
    this.#models = new Map(
      fleet.models.filter((model) => canHold(node, model)).map((model) => [model.name, model]),
    )
    this.#gpu = new SharedGpu(timeline.clock)
    this.#inMemory = new NodeModels({
      timeline,
      gpu: this.#gpu,
      plan: fleet,
      node,
      models: this.#models,
      speed,
    })
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Loads so far, and those that no swap ordered. */
  get loads(): { readonly all: number; readonly unordered: number } {
    return this.#inMemory.loads
  }

  /** Takes a request. */
  submit(options: AttemptOptions): NodeAttempt {
    const attempt = new NodeAttempt(options, this.#timeline.now)
    if (!this.#isUp || !this.#models.has(options.model)) options.onEnd(null)
    else this.#inMemory.admit(attempt)
    return attempt
  }

  /** Unloads the victims once they are idle, then loads the model. */
  swap({ victims, model, onEnd }: OrderedSwap): void {
    const load = loadOf(model, orderedKeepAlive, onEnd)
    if (this.#isUp) this.#inMemory.clear(victims, () => this.submit(load))
    else onEnd(null)
  }

  /** Puts models in memory at once, before the first request. */
  preload(models: Iterable<string>): void {
    for (const name of models) {
      const load = loadOf(name, Number.POSITIVE_INFINITY, () => {})
      if (this.#models.has(name)) this.#inMemory.preload(new NodeAttempt(load, this.#timeline.now))
    }
  }

  /** Its true speed with each model, alone, which no scheduler is told. */
  truth(): { model: string; secondsPerToken: number; prefillPerS: number }[] {
    const { decode, prefill } = this.#fleet
    return Array.from(this.#models.values(), ({ name, size }) => ({
      model: name,
      secondsPerToken: size / (decode * this.#speed),
      prefillPerS: (prefill * this.#speed) / size,
    }))
  }

  /** From now on every stream takes `times` times as long. */
  slowDown(times: number): void {
    this.#speed /= times
    this.#gpu.setSpeed(1 / times)
  }

  /** The node dies, and all its attempts fail. */
  kill(): void {
    this.#isUp = false
    for (const attempt of this.#inMemory.abandon()) attempt.options.onEnd(null)
  }

  /** What a scheduler may know of the node. */
  facts(): NodeFacts {
    const { name, speed, slots, memory, maxLoaded } = this.plan
    return {
      name,
      available: this.#isUp,
      weight: speed,
      labels: {},
      slots,
      memory,
      maxLoaded,
      models: new Map([...this.#models.values()].map((model) => [model.name, model.size])),
      resident: this.#inMemory.resident.map((model) => {
        const size = footprint(this.#models.get(model) ?? { size: 0 })
        return { model, variant: '', size, sizeVram: size, contextLength: 4096 }
      }),
    }
  }
}

/** An attempt that only loads a model. */
function loadOf(model: string, keepAlive: number, onEnd: OrderedSwap['onEnd']): AttemptOptions {
  return {
    model,
    promptTokens: 0,
    outputTokens: 0,
    conversation: -1,
    reusableTokens: 0,
    keepAlive,
    onFirstToken() {},
    onEnd: (timings) => onEnd(timings?.load ?? null),
    onBusy: () => onEnd(null),
  }
}
