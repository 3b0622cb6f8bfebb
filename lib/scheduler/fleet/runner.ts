import { contextVariant } from '../../fleet/variant.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { Decision, NodeFacts, SchedulingRequest } from '../events.ts'
import { type GpuClock, type GpuTime, RunnerTime } from '../learning/contention.ts'
import type { RunnerPace } from '../learning/pace.ts'
import type { AvailabilityBarrier } from './availability.ts'

/** A request on a node. */
export interface InFlightRequest {
  readonly request: SchedulingRequest
  readonly runner: Runner
  readonly startedAt: number
  /** Predicted. */
  readonly prefillS: number
  /** Tokens of its prompt that the prefix map promised. */
  readonly cached: number
  /** Streams of its runner when it began, itself included. */
  readonly streams: number
  readonly decision: Decision
  /** Prompts that its runner was reading when it began. */
  readonly readers: number
  /** When the first other prompt came while its own was to be read, in monotonic seconds; Infinity: none did. Set by Flights only. */
  joinedAt: number
  /** Seconds that the longest of those prompts takes to be read, as predicted. Set by Flights only. */
  otherPromptS: number
  /** Whether its own is being read; false where nobody tells when that is over. Changed by its node only. */
  isReading: boolean
  /** What its runner had had of the GPU when it began, and when it began to write; null until then, or where nobody tells. */
  readonly begunWith: GpuTime
  wroteWith: GpuTime | null
  /** In monotonic seconds; null while the prompt is read. */
  firstTokenAt: number | null
  tokens: number
  toldAt: number
  /** Tokens expected after those. */
  rest: number
}

/** What is known of a model in memory. */
export interface Residence {
  readonly size: number
  readonly sizeVram: number
  /** 0 while nobody has said. */
  readonly contextLength: number
}

/** A change of what a node has in memory: victims run dry, are unloaded, and the model is loaded (docs/routing.md#loads). */
export interface Swap {
  readonly runner: Runner
  readonly victims: readonly Runner[]
  readonly since: number
  /** When the victims were dry, and the load was asked for; null until then. */
  readonly askedAt: number | null
}

/** After a swap that came to nothing: until when the same is not tried again. */
export interface SwapPause {
  /** Monotonic seconds. */
  readonly until: number
  /** The load itself failed. */
  readonly isFailed: boolean
}

/** The node of a runner, as runners, costs and requests see it; NodeState is that node. */
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
  /** What keeps a runner from being loaded, if anything does. */
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
  /** Null: not in memory. Another object after each load, as nothing is cached after it. */
  residence: Residence | null = null
  /** Loaded by others: the options are a guess from its context, and may be the node's own. */
  isForeign = false
  /** What runs on it, by request id; changed by its node only. */
  readonly inFlight = new ChurnMap<string, InFlightRequest>()

  constructor(node: HostNode, model: string, variant: string, pace: RunnerPace) {
    this.node = node
    this.model = model
    this.variant = variant
    this.pace = pace
    this.time = new RunnerTime(node.gpu)
  }

  /** A runner with its node's own context also serves who asks for just as much (docs/ollama.md#requests). */
  serves(variant: string): boolean {
    if (this.variant === variant || (this.isForeign && variant === '')) return true
    const { contextLength = 0 } = this.residence ?? {}
    return this.variant === '' && contextLength > 0 && variant === contextVariant(contextLength)
  }

  get barrier(): AvailabilityBarrier | null {
    return this.node.facts.barriers?.get(this.model) ?? null
  }

  /** Slots by configuration and experience. */
  get slots(): number {
    const { slots, warmLimit = Number.POSITIVE_INFINITY } = this.node.facts
    return Math.min(this.pace.slots.count(slots), warmLimit)
  }

  /** Whether other models of its node are in use: what runs on it takes GPU time from them. */
  get hasBusyNeighbours(): boolean {
    return this.node.busy > (this.inFlight.size > 0 ? 1 : 0)
  }

  /** Seconds to load it when it is not in memory. */
  get loadS(): number {
    return this.pace.node.loadS(this.node.facts.models.get(this.model) ?? 0)
  }

  /** Whether its node is held for another model, and it gets nothing meanwhile. */
  get isHeld(): boolean {
    const { hold } = this.node.facts
    return !!hold && hold.model !== this.model && (hold.victims === null || hold.victims.includes(this.model))
  }

  get isVictim(): boolean {
    return this.node.swap?.victims.includes(this) ?? false
  }
}
