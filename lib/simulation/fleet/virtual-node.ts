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
  onEnd(end: SwapEnd): void
}

export interface SwapEnd {
  /** Seconds of the load; null when the swap failed. */
  readonly loadS: number | null
  /** Victims that other requests kept in memory, so that nothing was loaded. */
  readonly kept: readonly string[]
}

/** What schedulers sent to a node, without loads. */
export interface SentCounts {
  readonly all: number
  /** To a model that was about to be unloaded. */
  readonly toVictims: number
  /** While as many requests for the model were there as it has slots. */
  readonly beyondSlots: number
}

/** Seconds. Ollama's own keep-alive is five minutes; a model that a swap loaded stays longer. */
const orderedKeepAlive = 3600
/** Seconds that a node may take to unload a model (docs/routing.md#loads). */
const unloadS = 10

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
  readonly #swaps = new Set<OrderedSwap>()
  #speed: number
  #isUp = true
  #sent: SentCounts = { all: 0, toVictims: 0, beyondSlots: 0 }

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

  /** Requests so far. */
  get sent(): SentCounts {
    return this.#sent
  }

  /** Takes a request. */
  submit(options: AttemptOptions): NodeAttempt {
    const { all, toVictims, beyondSlots } = this.#sent
    const { model } = options
    const isVictim = [...this.#swaps].some(({ victims }) => victims.includes(model))
    const isFull = this.#inMemory.requests(model) >= this.plan.slots
    this.#sent = {
      all: all + 1,
      toVictims: toVictims + Number(isVictim),
      beyondSlots: beyondSlots + Number(isFull),
    }
    return this.#submit(options)
  }

  /** Unloads the victims once they are idle, then loads the model. */
  swap(order: OrderedSwap): void {
    const { victims, model } = order
    this.#swaps.add(order)
    const end = (loadS: number | null, kept: readonly string[] = []) => {
      this.#swaps.delete(order)
      order.onEnd({ loadS, kept })
    }
    const load = () => this.#submit(loadOf(model, orderedKeepAlive, end))
    if (this.#isUp)
      this.#inMemory.clear(victims, unloadS, (kept) => (kept.length > 0 ? end(null, kept) : load()))
    else end(null)
  }

  /** Unloads models once they are idle. */
  unload(models: readonly string[]): void {
    this.#inMemory.unload(models)
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

  #submit(options: AttemptOptions): NodeAttempt {
    const attempt = new NodeAttempt(options, this.#timeline.now)
    if (!this.#isUp || !this.#models.has(options.model)) options.onEnd(null)
    else this.#inMemory.admit(attempt)
    return attempt
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
function loadOf(model: string, keepAlive: number, onEnd: (loadS: number | null) => void): AttemptOptions {
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
