import type { Labels } from '../fleet/documents/field-schemas.ts'
import type { NodeHold } from '../fleet/instance.ts'
import type { Prefix } from '../fleet/request-spec.ts'
import type { AvailabilityBarrier } from './fleet/availability.ts'

/**
 * Events that go into the scheduler's core and effects that come out. Pure data: no sockets, no timers, no clock. Times are
 * monotonic seconds, rates per second, sizes bytes; the shell around the core converts.
 */

/** A request as the scheduler sees it. */
export interface SchedulingRequest {
  readonly id: string
  /** Canonical name. */
  readonly model: string
  /** The runner options it needs, as canonical text; "" for the node's defaults (fleet/variant.ts). */
  readonly variant: string
  readonly tenant: string
  /** Name of its priority class. */
  readonly class: string
  /** Estimated from the body. */
  readonly promptTokens: number
  /** The caller's limit for output tokens; null: none. */
  readonly maxTokens: number | null
  /** Its first token is reported when it is written; absent: nothing is known until its end. */
  readonly streams?: boolean
  /** It only embeds: nothing is decoded. */
  readonly embeds: boolean
  /** Prefixes of the conversation, the shortest first; empty when unknown. */
  readonly prefixes: readonly Prefix[]
  /** Labels that its node must have. */
  readonly labels: Labels
  /** Nodes that have failed it. */
  readonly tried: ReadonlySet<string>
  /** Its first arrival: it keeps its place in the queue after a node failed it. */
  readonly arrivedAt: number
}

/** A model in a node's memory, as `/api/ps` reports it. */
export interface RunnerFacts {
  readonly model: string
  /** The options that this cluster loaded it with; null: another client loaded it, and only its context is known. */
  readonly variant: string | null
  readonly size: number
  readonly sizeVram: number
  readonly contextLength: number
}

/** What is known of a node from config, probes and breakers. */
export interface NodeFacts {
  readonly name: string
  /** Its operator lets it take new requests. */
  readonly available: boolean
  /** The leader's advice: `slow` nodes come after others, `down` nodes are a last resort; absent: healthy. */
  readonly advice?: 'slow' | 'down'
  /** Configured weight, > 0. */
  readonly weight: number
  /** The operator's estimate of its relative speed, used until the speed is learned; absent: 1. */
  readonly expectedSpeed?: number
  readonly labels: Labels
  /** Configured slots per runner; null: learned. */
  readonly slots: number | null
  /** Configured bytes of memory for models; null: learned from the models that fitted at once. */
  readonly memory: number | null
  /** Configured limit of models in memory; null: Ollama's default of three per GPU. */
  readonly maxLoaded: number | null
  /** Models on its disk: bytes by canonical name. */
  readonly models: ReadonlyMap<string, number>
  readonly resident: readonly RunnerFacts[]
  /** Its prompt token counts exclude cached tokens; absent: they include them. */
  readonly countsEvaluated?: boolean
  /** Models that it gets no requests for at present, and why; absent: none. */
  readonly barriers?: ReadonlyMap<string, AvailabilityBarrier>
  /** Requests per runner during slow start; absent: as many as it has slots. */
  readonly warmLimit?: number
  /** Its breaker is half-open: one trial request may pass, and no other until the next facts. */
  readonly isOnTrial?: boolean
  /**
   * The memory that this instance may use there for a load. `any`: it may evict models. `missing`: it may evict only for a
   * model that is in memory on no node the request may use. `free`: unused memory only. `none`: no load. Absent: any.
   */
  readonly room?: 'any' | 'missing' | 'free' | 'none'
  /** An instance has claimed the node for a model: requests for other models do not start there meanwhile. Absent: no hold. */
  readonly hold?: NodeHold | null
}

/** Measurements of a finished request, from Ollama where it reports them (docs/ollama.md#answers). Durations in seconds. */
export interface Timings {
  readonly total: number
  readonly load: number
  readonly promptEval: number
  readonly eval: number
  readonly promptTokens: number
  /** Prompt tokens that were in the prompt cache; absent: the node does not report them (Ollama before 0.33.3). */
  readonly cachedTokens?: number
  readonly outputTokens: number
  /** llamero measured `promptEval`, so it includes the wait on the node and says nothing about slots. */
  readonly fromOutside?: true
  /** The caller read slowly: the time that the bytes took says nothing about the node. */
  readonly isReadSlowly?: true
}

/** The end of a request that was sent to a node. */
export interface RequestEnd {
  /** Null: it failed, or the node reports no times. Then nothing is learned. */
  readonly timings: Timings | null
  /** Output tokens; absent: it failed, unless there are timings. */
  readonly written?: number
}

/** Why the shell takes a request out of the queue. */
export type WithdrawalReason = 'left' | 'cancelled' | 'waited-too-long' | 'load-failed'

export type SchedulerEvent =
  | { readonly type: 'arrived'; readonly request: SchedulingRequest }
  /** It is withdrawn, waiting or running. `why` is set for a waiting one; absent: its caller disconnected. */
  | { readonly type: 'left'; readonly id: string; readonly why?: WithdrawalReason }
  | { readonly type: 'first-token'; readonly id: string }
  /** Tokens streamed so far, reported at intervals. */
  | { readonly type: 'tokens'; readonly id: string; readonly tokens: number }
  /** It is over, answered or failed. A request that is retried on another node arrives again. */
  | ({ readonly type: 'ended'; readonly id: string } & RequestEnd)
  /** The node answered 503, queue full: the slot count is too high. This ends the attempt as well. */
  | { readonly type: 'busy'; readonly id: string }
  /** The whole fleet as it is now; a missing node has left. The same object as last time: the node is unchanged. */
  | { readonly type: 'fleet'; readonly nodes: readonly NodeFacts[] }
  /** A requested swap is over: the model is in memory, or could not be loaded. `loadS` is the time that the load took. */
  | {
      readonly type: 'swapped'
      readonly node: string
      readonly model: string
      readonly ok: boolean
      readonly loadS: number
      /** Victims that the node did not unload in time; absent: none. */
      readonly kept?: readonly string[]
      /** The node answered the load with a request for a pause. */
      readonly isBusy?: boolean
    }
  /** Time has passed: ageing and time limits count. */
  | { readonly type: 'tick' }

export type RefusalReason =
  | 'queue-full'
  | 'tenant-full'
  | 'no-capacity'
  | 'waited-too-long'
  | 'no-node'
  /** Its model could not be loaded on any node where it may run. */
  | 'load-failed'

export type Effect =
  /** Send it now. */
  | { readonly type: 'start'; readonly id: string; readonly node: string; readonly decision: Decision }
  | {
      readonly type: 'refuse'
      readonly id: string
      readonly reason: RefusalReason
      readonly retryAfterS: number
      /** The node where the load failed, if that is the reason. */
      readonly node?: string
    }
  /**
   * Unload the victims, which run no request and get none; load the model once `/api/ps` confirms that. The result comes
   * back as `swapped`.
   */
  | {
      readonly type: 'swap'
      readonly node: string
      readonly victims: readonly string[]
      readonly model: string
      readonly variant: string
      /** Expected duration of the load. */
      readonly loadS: number
    }

/** One node as a place for one request, with its cost terms in seconds (docs/routing.md#cost). */
export interface Candidate {
  readonly node: string
  readonly state: 'ready' | 'full' | 'loading' | 'absent'
  readonly start: number
  readonly prefill: number
  readonly decode: number
  readonly externality: number
  readonly eviction: number
  readonly cost: number
}

/** Why a request went to its node. */
export interface Decision {
  readonly at: number
  readonly reason: 'warm' | 'affinity' | 'cold-load' | 'spill'
  /** The chosen candidate, then the best others. */
  readonly candidates: readonly Candidate[]
  /** Predicted seconds from arrival to the first token. */
  readonly ttft: number
}
