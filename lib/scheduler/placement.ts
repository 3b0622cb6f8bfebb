import type { Dice } from '../shared/loop.ts'
import { type CandidateList, promptOn } from './candidate-list.ts'
import type { Candidate, Decision } from './events.ts'
import type { PassageBarrier } from './gate.ts'
import { Shortlist } from './shortlist.ts'
import { candidateOf } from './terms.ts'
import type { Waiting } from './waiting.ts'

/** So many candidates are told with a decision. */
const told = 3

/** What a look for the cheapest place needs. */
interface Choice {
  readonly dice: Dice
  /** Costs that differ by this share are equal. */
  readonly tie: number
}

/**
 * The row where a request costs least, or -1 when there is none that anybody knows the start of. Of those that cost about
 * the same the one with most free slots, then any. In panic those with bad answers are used as well, but only once no
 * slot of another is free.
 */
export function cheapest(list: CandidateList, waiting: Waiting, choice: Choice, now: number): number {
  if (!list.isGuarded || !list.isPanic(waiting)) return cheapestOf(list, null, waiting, choice, now)
  const well = cheapestOf(list, 'ejected', waiting, choice, now)
  if (well >= 0 && list.terms(well).state === 'ready') return well
  return cheapestOf(list, null, waiting, choice, now)
}

/** @param spared rows with this barrier are left out. */
function cheapestOf(
  list: CandidateList,
  spared: PassageBarrier | null,
  waiting: Waiting,
  { dice, tie }: Choice,
  now: number,
): number {
  const shortlist = new Shortlist(tie)
  for (let nth = 0; list.floor(nth, waiting, now) <= shortlist.limit; nth++) {
    const row = list.rowAt(nth)
    if (list.mayUse(row, waiting, spared)) shortlist.offer(row, list.cost(row, waiting, now))
  }
  return shortlist.pick((row) => list.terms(row).freeSlots, dice)
}

/** All places of a request by cost; those without a known start are left out. */
export function candidatesOf(waiting: Waiting, list: CandidateList, now: number): Candidate[] {
  return list.runners
    .flatMap((_, row) => (list.admits(row, waiting) ? [candidateIn(list, row, waiting, now)] : []))
    .filter(({ cost }) => cost < Number.POSITIVE_INFINITY)
    .sort((a, b) => a.cost - b.cost)
}

/** Why a request goes to a row, beside the best others. */
export function decisionOn(waiting: Waiting, list: CandidateList, row: number, now: number): Decision {
  const chosen = candidateIn(list, row, waiting, now)
  const few: { readonly row: number; readonly cost: number }[] = []
  let isSpill = false
  for (
    let nth = 0;
    list.floor(nth, waiting, now) < (few[told - 2]?.cost ?? Number.POSITIVE_INFINITY);
    nth++
  ) {
    const other = list.rowAt(nth)
    if (other === row || !list.admits(other, waiting)) continue
    const cost = list.cost(other, waiting, now)
    const wait = Math.max(0, list.start(other) - now)
    // It would have been better off there, were it not for the wait.
    isSpill ||= list.terms(other).state === 'full' && cost - wait < chosen.cost
    insert(few, { row: other, cost })
  }
  const rest = few.map((each) => candidateIn(list, each.row, waiting, now))
  const waited = Math.max(0, now - waiting.work.arrivedAt)
  return {
    at: now,
    reason: reasonOf(waiting, list, row, isSpill),
    candidates: [chosen, ...rest],
    ttft: waited + chosen.start + chosen.prefill + list.terms(row).decodePerToken,
  }
}

/** Keeps the cheapest few, in order. */
function insert<Each extends { readonly cost: number }>(few: Each[], each: Each): void {
  const at = few.findIndex(({ cost }) => each.cost < cost)
  few.splice(at < 0 ? few.length : at, 0, each)
  if (few.length >= told) few.pop()
}

function reasonOf(
  { plan, hits }: Waiting,
  list: CandidateList,
  row: number,
  isSpill: boolean,
): Decision['reason'] {
  const runner = list.runners[row]
  if (!runner?.residence || (plan?.waitsFor === 'load' && plan.node === runner.node.name)) return 'cold-load'
  if (hits.has(runner)) return 'affinity'
  return isSpill ? 'spill' : 'warm'
}

function candidateIn(list: CandidateList, row: number, waiting: Waiting, now: number): Candidate {
  const runner = list.runners[row]
  const prompt = runner ? promptOn(runner, waiting) : 0
  return candidateOf(runner?.node.name ?? '', list.terms(row), list.start(row) - now, prompt, waiting.output)
}
