import { contextVariant } from '../../fleet/variant.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { CostTerms } from '../cost/cost-terms.ts'
import type { Decision, SchedulingRequest } from '../events.ts'
import { type GpuTime, RunnerTime } from '../learning/contention.ts'
import type { RunnerPace } from '../learning/pace.ts'
import type { AvailabilityBarrier } from './availability.ts'
import type { NodeState } from './node-state.ts'

/** A request on a node. */
export interface InFlightRequest {
  readonly work: SchedulingRequest
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
  besideS: number
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

/** One variant on one node, in memory or not: a place for requests. */
export class Runner {
  readonly node: NodeState
  readonly model: string
  readonly variant: string
  readonly pace: RunnerPace
  readonly time: RunnerTime
  /** Null: not in memory. Another object after each load, as nothing is cached after it. */
  residence: Residence | null = null
  /** Loaded by others: the options are a guess from its context, and may be the node's own. */
  isForeign = false
  /** What runs on it, by request id; changed by its node only. */
  readonly flights = new ChurnMap<string, InFlightRequest>()
  /** When each slot will be free, with what the pass under way has planned; null outside of a pass. */
  planned: number[] | null = null
  /** The last terms of its cost, which hold for a tick while nothing happens on the node; null when they were never worked out. */
  terms: CostTerms | null = null

  constructor(node: NodeState, model: string, variant: string, pace: RunnerPace) {
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
    return this.node.busy > (this.flights.size > 0 ? 1 : 0)
  }

  get isVictim(): boolean {
    return this.node.swap?.victims.includes(this) ?? false
  }
}
