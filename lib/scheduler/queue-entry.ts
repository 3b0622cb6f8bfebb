import type { CachedTokens } from './cost/prefix-index.ts'
import type { SchedulingRequest } from './events.ts'
import type { Runner } from './fleet/runner.ts'
import type { ClassParameters, Parameters } from './parameters.ts'

/**
 * What a request waits for: a slot, a load, or its tenant's share, because the tenant asks for much more than its share
 * while others need the room.
 */
export interface EntryPlan {
  /** Null: the first node with room. */
  readonly node: string | null
  readonly waitsFor: 'slot' | 'load' | 'share'
  /** Predicted start, in monotonic seconds. */
  readonly startsAt: number
}

/** A request in the queue. */
export interface QueueEntry {
  readonly request: SchedulingRequest
  readonly classParameters: ClassParameters
  /** It cannot use every node: it asks for labels, or nodes have failed it. */
  readonly isPicky: boolean
  /** When it entered the queue: later than its arrival if a node failed it. */
  readonly since: number
  /** Latest start that keeps the goal of its class, in monotonic seconds. */
  readonly latestStart: number
  readonly cachedTokens: CachedTokens
  /** Expected output tokens. */
  readonly output: number
  /** Mean seconds between two completions of its variant in the whole fleet. */
  readonly drainS: number
  /** The plan of the last pass; null when the pass did not reach the request. */
  plan: EntryPlan | null
  /** The start by its first plan, in monotonic seconds; Infinity before a plan. */
  dueAt: number
}

/** The priority of a request, and how long it is valid. */
export interface QueuePriority {
  readonly rank: number
  /** Inside its tenant the lowest goes first. */
  readonly key: number
  /** It will miss the goal of its class. */
  readonly isLate: boolean
  /** Monotonic seconds. */
  readonly until: number
}

/**
 * Classes are strict, but each `ageingS` of waiting lifts a request by one. Inside a tenant the earliest latest start goes
 * first; a request that misses its goal anyway steps back once, so as not to make others late (docs/routing.md#order).
 */
export function queuePriorityOf(
  { request, classParameters, latestStart }: QueueEntry,
  parameters: Parameters,
  now: number,
): QueuePriority {
  const { ageingS, late, stepBackS } = parameters.queue
  // Points in time are compared rather than waits, so that rounding never lets a priority outlive its `until`.
  const lateAt = request.arrivedAt + late * classParameters.ttftS
  let rank = classParameters.rank
  let risesAt = request.arrivedAt + ageingS
  for (; rank > 0 && now >= risesAt; rank--) risesAt += ageingS
  const isLate = now >= lateAt
  const key = parameters.uses.order ? latestStart + (isLate ? stepBackS : 0) : request.arrivedAt
  const until = Math.min(
    isLate ? Number.POSITIVE_INFINITY : lateAt,
    rank > 0 ? risesAt : Number.POSITIVE_INFINITY,
  )
  return { rank, key, isLate, until }
}

/** Prompt tokens that a runner has to read for a request. The last token is never cached. */
export function promptOn(runner: Runner, { request, cachedTokens }: QueueEntry): number {
  const promised = cachedTokens.size === 0 ? 0 : (cachedTokens.get(runner) ?? 0)
  if (promised === 0) return request.promptTokens
  return Math.max(1, request.promptTokens - promised * runner.pace.cachedShare)
}
