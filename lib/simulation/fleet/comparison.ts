import type { Sample } from './rehearsal.ts'
import { type DeciderOf, type RoundOptions, rehearse } from './round.ts'
import { isAftermath, noisyTenant } from './scenario.ts'
import { deviation, type Goal, mean, shareWithin, type Tally, tally, ttftOf } from './tally.ts'

/** One policy or yardstick of a comparison. */
export interface Contestant {
  readonly name: string
  /** A yardstick: rehearsed with every model in memory. */
  readonly allResident: boolean
  /** Instances of llamero, each with a decider of its own. */
  readonly instances: number
  readonly deciderOf: DeciderOf
}

/** Mean and standard deviation over the seeds. */
export interface Figure {
  readonly mean: number
  readonly sd: number
}

/** How one contestant did. Times in seconds, shares from 0 to 1. */
export interface PolicyStanding {
  readonly policy: string
  readonly figures: Readonly<Record<FigureName, Figure>>
  /** One by one, in the order of the seeds. */
  readonly rounds: readonly RoundResult[]
  /** Of each tenant. */
  readonly tenantSlo: Readonly<Record<string, Figure>>
}

export type FigureName = Exclude<keyof RoundResult, 'tenantSlo'>

/** What can be drawn of the first seed. */
export interface Curve {
  readonly policy: string
  /** Seconds to the first token of each request that got one, ascending. */
  readonly ttfts: readonly number[]
  readonly samples: readonly Sample[]
}

export interface ComparisonOptions extends Omit<RoundOptions, 'allResident' | 'instances' | 'seed'> {
  readonly goal: Goal
  readonly seeds: readonly number[]
}

export interface Comparison {
  readonly standings: readonly PolicyStanding[]
  readonly curves: readonly Curve[]
}

/**
 * Rehearses every contestant with every seed: the same nodes and requests for all.
 *
 * @param onRound awaited before each round: a round blocks the event loop for seconds.
 */
export async function compare(
  options: ComparisonOptions,
  contestants: readonly Contestant[],
  onRound: (policy: string, round: number) => Promise<void>,
): Promise<Comparison> {
  const standings: PolicyStanding[] = []
  const curves: Curve[] = []
  for (const { name, allResident, instances, deciderOf } of contestants) {
    const results: RoundResult[] = []
    for (const [index, seed] of options.seeds.entries()) {
      await onRound(name, index + 1)
      const course = rehearse({ ...options, allResident, instances, seed }, deciderOf)
      // The noisy tenant's own requests do not count: only what the others get is of interest.
      const outcomes = course.outcomes.filter(({ request }) => request.tenant !== noisyTenant)
      const after = outcomes.filter(isAftermath(options.scenario, outcomes))
      const { loads, unorderedLoads, sent } = course
      const victimStarts = sent.toVictims
      const beyondSlots = sent.beyondSlots / Math.max(1, sent.all)
      const aftermathSlo = shareWithin(after, options.goal)
      results.push({
        ...tally(outcomes, options.goal),
        aftermathSlo,
        loads,
        unorderedLoads,
        victimStarts,
        beyondSlots,
      })
      if (index > 0) continue
      const served = outcomes.filter(({ firstTokenAt }) => firstTokenAt !== null)
      curves.push({ policy: name, ttfts: served.map(ttftOf).sort((a, b) => a - b), samples: course.samples })
    }
    standings.push(standingOf(name, results))
  }
  return { standings, curves }
}

/** One rehearsal of one contestant. */
interface RoundResult extends Tally {
  /** Share within the goal, of the requests that arrived soon after half time. */
  readonly aftermathSlo: number
  readonly loads: number
  readonly unorderedLoads: number
  /** Requests sent to a model that was about to be unloaded. */
  readonly victimStarts: number
  /** Share of the requests sent to a node that went beyond its slots for their model. */
  readonly beyondSlots: number
}

function standingOf(policy: string, results: readonly RoundResult[]): PolicyStanding {
  const figure = (name: FigureName) => figureOf(results.map((result) => result[name]))
  const tenants = Object.keys(results[0]?.tenantSlo ?? {})
  return {
    policy,
    rounds: results,
    figures: {
      requests: figure('requests'),
      slo: figure('slo'),
      worstTenantSlo: figure('worstTenantSlo'),
      ttftP50: figure('ttftP50'),
      ttftP95: figure('ttftP95'),
      ttftP99: figure('ttftP99'),
      e2eMean: figure('e2eMean'),
      e2eP95: figure('e2eP95'),
      prefixHits: figure('prefixHits'),
      refused: figure('refused'),
      failed: figure('failed'),
      loads: figure('loads'),
      unorderedLoads: figure('unorderedLoads'),
      victimStarts: figure('victimStarts'),
      beyondSlots: figure('beyondSlots'),
      aftermathSlo: figure('aftermathSlo'),
    },
    tenantSlo: Object.fromEntries(
      tenants.map((tenant) => [tenant, figureOf(results.map(({ tenantSlo }) => tenantSlo[tenant] ?? 0))]),
    ),
  }
}

function figureOf(values: readonly number[]): Figure {
  return { mean: mean(values), sd: deviation(values) }
}
