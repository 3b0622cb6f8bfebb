import type { TrafficRequest } from './traffic.ts'

/** The end of a request. Times are seconds of the rehearsal. */
export interface TrafficOutcome {
  readonly request: TrafficRequest
  /** `lost`: still waiting when the rehearsal was over. */
  readonly end: 'served' | 'refused' | 'failed' | 'left' | 'lost'
  /** Null when no token came. */
  readonly firstTokenAt: number | null
  readonly endedAt: number
  /** Tokens of its prompt that were in a cache. */
  readonly cachedTokens: number
}

/** The service level that callers should get. */
export interface Goal {
  /** Seconds to the first token, at most. */
  readonly ttft: number
  /** Tokens per second after it, at least. */
  readonly pace: number
}

/** One rehearsal in numbers; times in seconds, shares from 0 to 1. */
export interface Tally {
  readonly requests: number
  /** Share of all requests that were served within the goal. */
  readonly slo: number
  /** Of the tenant with the lowest share. */
  readonly worstTenantSlo: number
  /** Of each tenant. */
  readonly tenantSlo: Readonly<Record<string, number>>
  readonly ttftP50: number
  readonly ttftP95: number
  readonly ttftP99: number
  readonly e2eMean: number
  readonly e2eP95: number
  /** Share of the prompt tokens that were there before in their conversation which were in a cache. */
  readonly prefixHits: number
  readonly refused: number
  /** Neither served nor refused. */
  readonly failed: number
}

/** Share of requests at the start that do not count: the fleet warms up. */
const warmUp = 0.1

/** Counts how the requests ended, without the first tenth. */
export function tally(outcomes: readonly TrafficOutcome[], goal: Goal): Tally {
  const counted = outcomes.slice(Math.floor(warmUp * outcomes.length))
  const served = counted.filter(({ end }) => end === 'served')
  const ttfts = served.map(ttftOf).sort((a, b) => a - b)
  const e2es = served.map(({ request, endedAt }) => endedAt - request.at).sort((a, b) => a - b)
  const byTenant = Map.groupBy(counted, ({ request }) => request.tenant)
  const tenantSlo = Object.fromEntries(
    [...byTenant]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([tenant, own]) => [tenant, shareWithin(own, goal)]),
  )
  const refused = counted.filter(({ end }) => end === 'refused').length
  return {
    requests: counted.length,
    slo: shareWithin(counted, goal),
    worstTenantSlo: Math.min(...Object.values(tenantSlo)),
    tenantSlo,
    ttftP50: quantile(ttfts, 0.5),
    ttftP95: quantile(ttfts, 0.95),
    ttftP99: quantile(ttfts, 0.99),
    e2eMean: mean(e2es),
    e2eP95: quantile(e2es, 0.95),
    prefixHits: prefixHits(served),
    refused,
    failed: counted.length - served.length - refused,
  }
}

function prefixHits(served: readonly TrafficOutcome[]): number {
  const reusable = served.reduce((sum, { request }) => sum + request.reusableTokens, 0)
  return served.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0) / Math.max(1, reusable)
}

/** Seconds to the first token of a request that got one. */
export function ttftOf({ request, firstTokenAt, endedAt }: TrafficOutcome): number {
  return (firstTokenAt ?? endedAt) - request.at
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Standard deviation of a sample; 0 for a single value. */
export function deviation(values: readonly number[]): number {
  const middle = mean(values)
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0)
  return values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1))
}

/** @param sorted ascending; 0 when there are none. */
function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
}

/** Share that was served within the goal. */
export function shareWithin(outcomes: readonly TrafficOutcome[], goal: Goal): number {
  return outcomes.filter((outcome) => isWithin(outcome, goal)).length / Math.max(1, outcomes.length)
}

function isWithin(outcome: TrafficOutcome, goal: Goal): boolean {
  const { request, end, firstTokenAt, endedAt } = outcome
  if (end !== 'served' || firstTokenAt === null) return false
  return ttftOf(outcome) <= goal.ttft && request.outputTokens >= goal.pace * (endedAt - firstTokenAt)
}
