import type { Dice } from '../shared/loop.ts'
import { type CandidateList, promptOn } from './candidate-list.ts'
import type { Candidate, Decision } from './events.ts'
import type { PassageBarrier } from './gate.ts'
import { Shortlist } from './shortlist.ts'
import { candidateOf } from './terms.ts'
import type { Waiting } from './waiting.ts'

/** So many candidates are told with a decision. */
const told = 3

interface Placed {
  readonly row: number
  readonly cost: number
}

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
  let shortlist: Shortlist
  do {
    shortlist = new Shortlist(tie)
    for (let nth = 0; list.floor(nth, waiting, now) <= shortlist.limit; nth++) {
      const row = list.rowAt(nth)
      if (list.mayUse(row, waiting, spared)) shortlist.offer(row, list.cost(row, waiting, now))
    }
  } while (list.workOutLoads(shortlist.limit, now))
  return shortlist.pick((row) => list.terms(row).freeSlots, dice)
}

/** All places of a request by cost; those without a known start are left out. */
export function candidatesOf(waiting: Waiting, list: CandidateList, now: number): Candidate[] {
  list.workOutLoads(Number.POSITIVE_INFINITY, now)
  return list.runners
    .flatMap((_, row) => (list.admits(row, waiting) ? [candidateIn(list, row, waiting, now)] : []))
    .filter(({ cost }) => cost < Number.POSITIVE_INFINITY)
    .sort((a, b) => a.cost - b.cost)
}

/** Why a request goes to a row, beside the best others. */
export function decisionOn(waiting: Waiting, list: CandidateList, row: number, now: number): Decision {
  const chosen = candidateIn(list, row, waiting, now)
  const { few, isSpill } = othersFor(waiting, list, row, chosen.cost, now)
  const rest = few.map((each) => candidateIn(list, each.row, waiting, now))
  const waited = Math.max(0, now - waiting.work.arrivedAt)
  return {
    at: now,
    reason: reasonOf(waiting, list, row, isSpill),
    candidates: [chosen, ...rest],
    ttft: waited + chosen.start + chosen.prefill + list.terms(row).decodePerToken,
  }
}

/** The cheapest rows beside the chosen one; `isSpill` where another would have been better, were it not for the wait. */
function othersFor(waiting: Waiting, list: CandidateList, chosen: number, cost: number, now: number) {
  let few: Placed[] = []
  let isSpill = false
  let limit = Number.MAX_VALUE
  do {
    few = []
    for (let nth = 0; list.floor(nth, waiting, now) < limit; nth++) {
      const row = list.rowAt(nth)
      if (row === chosen || !list.admits(row, waiting)) continue
      const other = { row, cost: list.cost(row, waiting, now) }
      isSpill ||= list.terms(row).state === 'full' && other.cost - Math.max(0, list.start(row) - now) < cost
      insert(few, other)
      limit = few[told - 2]?.cost ?? limit
    }
  } while (list.workOutLoads(limit, now))
  return { few, isSpill }
}

/** Keeps the cheapest few, in order. */
function insert(few: Placed[], each: Placed): void {
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
