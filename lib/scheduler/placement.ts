import type { Dice } from '../shared/loop.ts'
import type { Candidate, Decision } from './events.ts'
import type { Surroundings } from './predicted-end.ts'
import type { Runner } from './runner.ts'
import { candidateOf, costOf, type Terms, termsOf } from './terms.ts'
import type { Waiting } from './waiting.ts'

/** So many candidates are told with a decision. */
const told = 3

/** A place for a request. */
export interface Placement {
  readonly runner: Runner
  readonly terms: Terms
}

/** Prompt tokens that a request has to have read on a runner. The last one is never cached. */
export function promptOn(runner: Runner, { work, hits }: Waiting): number {
  const promised = hits.size === 0 ? 0 : (hits.get(runner) ?? 0)
  if (promised === 0) return work.promptTokens
  return Math.max(1, work.promptTokens - promised * runner.pace.cachedShare)
}

/**
 * The cheapest place, or null when there is none that anybody knows the start of. Of places that cost about the same the
 * one with most free slots, then any.
 */
export function cheapest(
  waiting: Waiting,
  runners: readonly Runner[],
  around: Surroundings,
  dice: Dice,
  now: number,
): Placement | null {
  const { tie } = around.rules.cost
  let best: Placement | null = null
  let least = Number.POSITIVE_INFINITY
  let ceiling = Number.POSITIVE_INFINITY
  let freeSlots = 0
  let equals = 0
  for (const runner of runners) {
    const terms = termsOf(runner, around, now)
    // Most are passed over here: the wait alone costs more.
    if (!(terms.start - now < ceiling)) continue
    const cost = costOf(terms, promptOn(runner, waiting), waiting.output, now)
    if (cost > ceiling) continue
    const lead = cost < least * (1 - tie) ? 1 : terms.freeSlots - freeSlots
    least = Math.min(least, cost)
    ceiling = least * (1 + tie)
    if (lead < 0) continue
    equals = lead > 0 ? 1 : equals + 1
    if (dice() * equals >= 1) continue
    best = { runner, terms }
    freeSlots = terms.freeSlots
  }
  return best
}

/** All places of a request by cost, the chosen one first; those without a known start are left out. */
export function candidatesOf(
  waiting: Waiting,
  runners: readonly Runner[],
  around: Surroundings,
  now: number,
): Candidate[] {
  return runners
    .map((runner) => candidateIn(waiting, runner, around, now))
    .filter(({ cost }) => cost < Number.POSITIVE_INFINITY)
    .sort((a, b) => a.cost - b.cost)
}

/** Why the request goes to the place, beside the best others. */
export function decisionOn(
  waiting: Waiting,
  { runner, terms }: Placement,
  runners: readonly Runner[],
  around: Surroundings,
  now: number,
): Decision {
  const chosen = candidateIn(waiting, runner, around, now)
  const few: Runner[] = []
  const costs: number[] = []
  let isSpill = false
  for (const other of runners) {
    if (other === runner) continue
    const theirs = termsOf(other, around, now)
    const cost = costOf(theirs, promptOn(other, waiting), waiting.output, now)
    // It would have been better off there, were it not for the wait.
    if (theirs.state === 'full' && cost - Math.max(0, theirs.start - now) < chosen.cost) isSpill = true
    if (cost === Number.POSITIVE_INFINITY || cost >= (costs[told - 2] ?? Number.POSITIVE_INFINITY)) continue
    const at = costs.findIndex((each) => cost < each)
    costs.splice(at < 0 ? costs.length : at, 0, cost)
    few.splice(at < 0 ? few.length : at, 0, other)
    costs.length = few.length = Math.min(few.length, told - 1)
  }
  return {
    at: now,
    reason: reasonOf(waiting, runner, isSpill),
    candidates: [chosen, ...few.map((other) => candidateIn(waiting, other, around, now))],
    ttft: Math.max(0, now - waiting.work.arrivedAt) + chosen.start + chosen.prefill + terms.decodePerToken,
  }
}

function reasonOf({ plan, hits }: Waiting, runner: Runner, isSpill: boolean): Decision['reason'] {
  if (!runner.residence || (plan?.waitsFor === 'load' && plan.node === runner.node.name)) return 'cold-load'
  if (hits.has(runner)) return 'affinity'
  return isSpill ? 'spill' : 'warm'
}

function candidateIn(waiting: Waiting, runner: Runner, around: Surroundings, now: number): Candidate {
  const terms = termsOf(runner, around, now)
  return candidateOf(runner, terms, promptOn(runner, waiting), waiting.output, now)
}
