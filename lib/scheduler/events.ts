import type { Labels } from '../fleet/documents/field-schemas.ts'
import type { NodeHold } from '../fleet/instance.ts'
import type { Prefix } from '../fleet/request-spec.ts'
import type { AvailabilityBarrier } from './fleet/availability.ts'

/**
 * What the core of the scheduler is told, and what it answers. Pure data: no sockets, no timers, no clock. Every time is
 * monotonic seconds, every rate per second, every size bytes; whoever stands around the core converts once.
 */

/** A request as the scheduler sees it. */
export interface SchedulingRequest {
  readonly id: string
  /** Canonical name. */
  readonly model: string
  /** The runner options it needs, as canonical text; "" for the node's own (fleet/variant.ts). */
  readonly variant: string
  readonly tenant: string
  /** Name of its priority class. */
  readonly class: string
  /** Estimated from the body. */
  readonly promptTokens: number
  /** At most so many tokens will be written; null when the caller set no limit. */
  readonly maxTokens: number | null
  /** Its first token is told when it is written; absent: nobody can tell until its end. */
  readonly streams?: boolean
  /** It only embeds: nothing is decoded. */
  readonly embeds: boolean
  /** From the first message on, each longer than the one before; empty when nothing is known. */
  readonly prefixes: readonly Prefix[]
  /** Labels a node must have. */
  readonly nodes: Labels
  /** Nodes that failed it already. */
  readonly tried: ReadonlySet<string>
  /** Its place in the queue, also when it comes again from a failed node. */
  readonly arrivedAt: number
}

/** A model in a node's memory, as `/api/ps` tells it. */
export interface RunnerFacts {
  readonly model: string
  /** What this cluster loaded it with; null where others did, and nothing is known but the context. */
  readonly variant: string | null
  readonly size: number
  readonly sizeVram: number
  readonly contextLength: number
}

/** What is known of a node without having asked it to work. */
export interface NodeFacts {
  readonly name: string
  /** May take new requests: its operator wants that. */
  readonly available: boolean
  /** Advice: `slow` is preferred less, `down` is a last resort; absent: nothing bad is known. */
  readonly advice?: 'slow' | 'down'
  /** Static share, > 0. */
  readonly weight: number
  /** How fast its operator believes it to be against the others, until that is learned; absent: 1. */
  readonly expectedSpeed?: number
  readonly labels: Labels
  /** Configured slots per runner; null: learned. */
  readonly slots: number | null
  /** Configured bytes of memory for models; null: learned from what was seen to fit. */
  readonly memory: number | null
  /** Configured models at once; null: Ollama's default of three per GPU. */
  readonly maxLoaded: number | null
  /** Bytes by canonical name of the models on its disk. */
  readonly models: ReadonlyMap<string, number>
  readonly resident: readonly RunnerFacts[]
  /** Its prompt token counts leave out what was cached; absent: they hold it. */
  readonly countsEvaluated?: boolean
  /** Models that something keeps off it; absent: none. */
  readonly barriers?: ReadonlyMap<string, AvailabilityBarrier>
  /** At most so many requests per runner while it is warmed up; absent: as many as it has slots. */
  readonly warmLimit?: number
  /** One request is let through to see how it does, and nothing more until the next facts. */
  readonly isOnTrial?: boolean
  /**
   * For what a load may take room there: for `any` model whatever it takes the place of; the place of others only for one
   * that is `missing` wherever the request may go; what is `free`; `none` at all. Absent: any.
   */
  readonly room?: 'any' | 'missing' | 'free' | 'none'
  /** An instance needs it for a model: requests for other models do not start there meanwhile. Absent: none does. */
  readonly hold?: NodeHold | null
}

/** Measurements of a finished request, Ollama's own where it tells them (docs/ollama.md#answers), durations in seconds. */
export interface Timings {
  readonly total: number
  readonly load: number
  readonly promptEval: number
  readonly eval: number
  readonly promptTokens: number
  /** Of them, those that were in the prompt cache; absent where the node does not tell: Ollama before 0.33.3. */
  readonly cachedTokens?: number
  readonly outputTokens: number
  /** The node did not tell `promptEval` itself: it holds a wait on the node as well, so slots learn nothing from it. */
  readonly fromOutside?: true
  /** The caller was slow to read: how long the bytes took says nothing about the node. */
  readonly isReadSlowly?: true
}

/** How a request ended that was sent to a node. */
export interface RequestEnd {
  /** Null when it failed, and where the node tells no times: then nothing is learned. */
  readonly timings: Timings | null
  /** Tokens that were written; absent: it failed, unless there are timings. */
  readonly written?: number
}

/** Why the shell takes a request out of the queue. */
export type WithdrawalReason = 'left' | 'cancelled' | 'waited-too-long' | 'load-failed'

export type SchedulerEvent =
  | { readonly type: 'arrived'; readonly request: SchedulingRequest }
  /** It is given up, waiting or served: `why` it may wait no more; absent: its caller left. */
  | { readonly type: 'left'; readonly id: string; readonly why?: WithdrawalReason }
  | { readonly type: 'first-token'; readonly id: string }
  /** Tokens streamed so far, told now and then. */
  | { readonly type: 'tokens'; readonly id: string; readonly tokens: number }
  /** It is over, served or failed. Whoever is tried elsewhere arrives again. */
  | ({ readonly type: 'ended'; readonly id: string } & RequestEnd)
  /** The node said that its queue is full (503): our slots are wrong. Ends the attempt as well. */
  | { readonly type: 'busy'; readonly id: string }
  /** The whole fleet as it is now; whoever is missing is gone. The same object as last time: nothing new of that node. */
  | { readonly type: 'fleet'; readonly nodes: readonly NodeFacts[] }
  /** A swap that was asked for is over: the model is in memory after so many seconds of loading, or it could not be loaded. */
  | {
      readonly type: 'swapped'
      readonly node: string
      readonly model: string
      readonly ok: boolean
      readonly loadS: number
      /** Victims that the node did not let go of in time; absent: none. */
      readonly kept?: readonly string[]
      /** The node was asked to load it, and asked for a pause. */
      readonly isBusy?: boolean
    }
  /** What time alone changes: ageing, time limits. */
  | { readonly type: 'tick' }

export type RefusalReason =
  | 'queue-full'
  | 'tenant-full'
  | 'no-capacity'
  | 'waited-too-long'
  | 'no-node'
  /** Where it could run its model could not be loaded just now. */
  | 'load-failed'

export type Effect =
  /** Send it now. */
  | { readonly type: 'start'; readonly id: string; readonly node: string; readonly decision: Decision }
  | {
      readonly type: 'refuse'
      readonly id: string
      readonly reason: RefusalReason
      readonly retryAfterS: number
      /** Whose load failed, if that is the reason. */
      readonly node?: string
    }
  /**
   * Unload the victims, which run nothing and get nothing any more; when `/api/ps` confirms it, load the model. Told back
   * as `swapped`.
   */
  | {
      readonly type: 'swap'
      readonly node: string
      readonly victims: readonly string[]
      readonly model: string
      readonly variant: string
      /** Seconds that the load is expected to take. */
      readonly loadS: number
    }

/** One node as a place for one request: the terms of its cost, in seconds (docs/routing.md#cost). */
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

/** Why a request went where it went. */
export interface Decision {
  readonly at: number
  readonly reason: 'warm' | 'affinity' | 'cold-load' | 'spill'
  /** The best few, the chosen one first. */
  readonly candidates: readonly Candidate[]
  /** Predicted seconds from arrival to the first token. */
  readonly ttft: number
}
