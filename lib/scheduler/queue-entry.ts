import type { CachedTokens } from './cost/prefix-index.ts'
import type { SchedulingRequest } from './events.ts'
import type { Runner } from './fleet/runner.ts'
import type { ClassRule, Parameters } from './parameters.ts'

/**
 * What keeps a request waiting: a slot of a runner, a model that is being loaded, or its tenant's share, as that asks for
 * much more than that and the others need the room.
 */
export interface EntryPlan {
  /** Null: whichever has room first. */
  readonly node: string | null
  readonly waitsFor: 'slot' | 'load' | 'share'
  /** When it is predicted to start, in monotonic seconds. */
  readonly startsAt: number
}

/** A request in the queue. */
export interface QueueEntry {
  readonly request: SchedulingRequest
  readonly rule: ClassRule
  /** Not every node will do: it asks for labels, or some have failed it. */
  readonly isPicky: boolean
  /** When it came into the queue: later than its arrival where another node failed it. */
  readonly since: number
  /** When it must start to keep its class's goal, in monotonic seconds. */
  readonly latestStart: number
  readonly cachedTokens: CachedTokens
  /** Tokens it is expected to write. */
  readonly output: number
  /** Seconds that the fleet needs for one such request, on average, with all that it runs at once. */
  readonly drainS: number
  /** What the last pass planned; null when it came not so far. */
  plan: EntryPlan | null
  /** When it should have started by the first plan, in monotonic seconds; Infinity while there was none. */
  dueAt: number
}

/** Where a request stands now, and until when. */
export interface QueuePriority {
  readonly rank: number
  /** Inside its tenant the least goes first. */
  readonly key: number
  /** It will miss its class's goal. */
  readonly isLate: boolean
  /** Monotonic seconds. */
  readonly until: number
}

/**
 * Classes are strict, but each `ageingS` of waiting lifts a request by one. Inside a tenant whoever must start first goes
 * first; who is late for the goal anyway steps back once, so as not to make others late (docs/routing.md#order).
 */
export function queuePriorityOf(
  { request, rule, latestStart }: QueueEntry,
  rules: Parameters,
  now: number,
): QueuePriority {
  const { ageingS, late, stepBackS } = rules.queue
  // Moments rather than waits are compared, so that a standing never outlives its `until` by a rounding.
  const lateAt = request.arrivedAt + late * rule.ttftS
  let rank = rule.rank
  let risesAt = request.arrivedAt + ageingS
  for (; rank > 0 && now >= risesAt; rank--) risesAt += ageingS
  const isLate = now >= lateAt
  const key = rules.uses.order ? latestStart + (isLate ? stepBackS : 0) : request.arrivedAt
  const until = Math.min(
    isLate ? Number.POSITIVE_INFINITY : lateAt,
    rank > 0 ? risesAt : Number.POSITIVE_INFINITY,
  )
  return { rank, key, isLate, until }
}

/** Prompt tokens that a request has to have read on a runner. The last one is never cached. */
export function promptOn(runner: Runner, { request, cachedTokens }: QueueEntry): number {
  const promised = cachedTokens.size === 0 ? 0 : (cachedTokens.get(runner) ?? 0)
  if (promised === 0) return request.promptTokens
  return Math.max(1, request.promptTokens - promised * runner.pace.cachedShare)
}
