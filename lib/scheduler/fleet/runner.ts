import { contextVariant } from '../../fleet/models/variant.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { Decision, NodeFacts, SchedulingRequest } from '../events.ts'
import { type GpuClock, type GpuTime, RunnerTime } from '../learning/contention.ts'
import type { RunnerPace } from '../learning/pace.ts'
import type { AvailabilityBarrier } from './availability.ts'

/** A request that was sent to a node. */
export interface InFlightRequest {
  readonly request: SchedulingRequest
  readonly runner: Runner
  readonly startedAt: number
  /** Predicted seconds to read its prompt. */
  readonly prefillS: number
  /** Prompt tokens that the prefix index expected to be cached. */
  readonly cached: number
  /** Requests on its runner when it began, itself included. */
  readonly streams: number
  readonly decision: Decision
  /** Other prompts that its runner was reading when it began. */
  readonly readers: number
  /** When the first other prompt arrived before its own was read, in monotonic seconds; Infinity: none. Only InFlight sets it. */
  joinedAt: number
  /** Predicted seconds to read the longest of those prompts. Only InFlight sets it. */
  otherPromptS: number
  /** Whether its prompt is being read; false if the end of reading is not reported. Only its node changes it. */
  isReading: boolean
  /** GPU time of its runner when it began, and when it began to write; null before, or if that is not reported. */
  readonly begunWith: GpuTime
  wroteWith: GpuTime | null
  /** In monotonic seconds; null until then. */
  firstTokenAt: number | null
  tokens: number
  toldAt: number
  /** Expected tokens after those. */
  rest: number
}

/** A model in memory. */
export interface Residence {
  readonly size: number
  readonly sizeVram: number
  /** 0: not known yet. */
  readonly contextLength: number
}

/** A model swap: the victims' requests end, the victims are unloaded, and the model is loaded (docs/routing.md#loads). */
export interface Swap {
  readonly runner: Runner
  readonly victims: readonly Runner[]
  readonly since: number
  /** When the victims ran no requests and the load was requested; null until then. */
  readonly requestedAt: number | null
}

/** After a swap that failed or was given up: until when it is not tried again. */
export interface SwapPause {
  /** Monotonic seconds. */
  readonly until: number
  /** The load itself failed. */
  readonly isFailed: boolean
}

/** The node of a runner, as runners, costs and requests see it. NodeState implements it. */
export interface HostNode {
  readonly name: string
  readonly facts: NodeFacts
  readonly gpu: GpuClock
  readonly swap: Swap | null
  /** Increases with every change that costs depend on. */
  readonly stamp: number
  /** Requests running. */
  readonly active: number
  /** Runners with requests running. */
  readonly busy: number
  /** Runners in memory, by model. */
  readonly loaded: ReadonlyMap<string, Runner>
  /** Bytes for models. */
  readonly memory: number
  /** The trial request of its half-open breaker is under way. */
  readonly isTried: boolean
  /** The pause that keeps a runner from being loaded, if there is one. */
  pauseOf(runner: Runner, now: number): SwapPause | null
  /** Calls back on every change that costs depend on, until the residency of the fleet changes. */
  follow(changed: () => void): void
  touch(): void
  began(inFlight: InFlightRequest): void
  wrote(inFlight: InFlightRequest, now: number): void
  ended(inFlight: InFlightRequest, now: number): void
}

/** One variant on one node, in memory or not: a place for requests. */
export class Runner {
  readonly node: HostNode
  readonly model: string
  readonly variant: string
  readonly pace: RunnerPace
  readonly time: RunnerTime
  /** Null: not in memory. Each load makes a new object, since a load empties the prompt cache. */
  residence: Residence | null = null
  /** Another client loaded it: its options are guessed from its context, and may be the node's defaults. */
  isForeign = false
  /** Requests in flight by id. Only its node changes them. */
  readonly inFlight = new ChurnMap<string, InFlightRequest>()

  constructor(node: HostNode, model: string, variant: string, pace: RunnerPace) {
    this.node = node
    this.model = model
    this.variant = variant
    this.pace = pace
    this.time = new RunnerTime(node.gpu)
  }

  /** A runner with the node's default context also serves requests for exactly that context (docs/ollama.md#requests). */
  serves(variant: string): boolean {
    if (this.variant === variant || (this.isForeign && variant === '')) return true
    const { contextLength = 0 } = this.residence ?? {}
    return this.variant === '' && contextLength > 0 && variant === contextVariant(contextLength)
  }

  get barrier(): AvailabilityBarrier | null {
    return this.node.facts.barriers?.get(this.model) ?? null
  }

  /** Slots, configured or learned, limited by slow start. */
  get slots(): number {
    const { slots, warmLimit = Number.POSITIVE_INFINITY } = this.node.facts
    return Math.min(this.pace.slots.count(slots), warmLimit)
  }

  /** Whether other models of its node are in use: its requests would take GPU time from them. */
  get hasBusyNeighbours(): boolean {
    return this.node.busy > (this.inFlight.size > 0 ? 1 : 0)
  }

  /** Seconds to load it when it is not in memory. */
  get loadS(): number {
    return this.pace.node.loadS(this.node.facts.models.get(this.model) ?? 0)
  }

  /** Whether its node is held for another model, so that no request may start here meanwhile. */
  get isHeld(): boolean {
    const { hold } = this.node.facts
    return !!hold && hold.model !== this.model && (hold.victims === null || hold.victims.includes(this.model))
  }

  get isVictim(): boolean {
    return this.node.swap?.victims.includes(this) ?? false
  }
}
