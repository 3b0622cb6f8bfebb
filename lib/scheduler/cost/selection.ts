import type { Candidate, Decision } from '../events.ts'
import { promptOn, type QueueEntry } from '../queue-entry.ts'
import type { Candidates } from './candidates.ts'
import { candidateOf } from './cost-terms.ts'

interface FailedLoad {
  readonly node: string
  /** When it is tried again, in monotonic seconds. */
  readonly until: number
}

/** Candidates that are recorded with a decision, the chosen one included. */
const recorded = 3

/** All candidates of a request by cost; those without a known start are left out. */
export function candidatesOf(entry: QueueEntry, list: Candidates, now: number): Candidate[] {
  list.computeLoads(Number.POSITIVE_INFINITY, now)
  return list.runners
    .flatMap((_, row) =>
      list.admits(row, entry) && list.mayMakeRoom(row, entry) ? [candidateIn(list, row, entry, now)] : [],
    )
    .filter(({ cost }) => cost < Number.POSITIVE_INFINITY)
    .sort((a, b) => a.cost - b.cost)
}

/** Why a request goes to a row, with the best alternatives; postponed loads are not among them. */
export function decisionOn(entry: QueueEntry, list: Candidates, row: number, now: number): Decision {
  const chosen = candidateIn(list, row, entry, now)
  const few: { readonly row: number; readonly cost: number }[] = []
  let isSpill = false
  for (let other = 0; other < list.runners.length; other++) {
    const wait = Math.max(0, list.start(other) - now)
    if (other === row || !(wait < (few[recorded - 2]?.cost ?? Number.POSITIVE_INFINITY))) continue
    if (!list.admits(other, entry) || !list.mayMakeRoom(other, entry)) continue
    const cost = list.cost(other, entry, now)
    // Without the wait the other row would have been cheaper.
    isSpill ||= cost - wait < chosen.cost && list.costTerms(other).state === 'full'
    insert(few, { row: other, cost })
  }
  const rest = few.map((each) => candidateIn(list, each.row, entry, now))
  const waited = Math.max(0, now - entry.request.arrivedAt)
  return {
    at: now,
    reason: reasonOf(entry, list, row, isSpill),
    candidates: [chosen, ...rest],
    ttft: waited + chosen.start + chosen.prefill + list.costTerms(row).decodePerToken,
  }
}

/**
 * The failed load that a request waits for, if it has no other place: the first load to be tried again. A request that a
 * node failed waits for that as well.
 */
export function failedLoadOf(entry: QueueEntry, list: Candidates, now: number): FailedLoad | null {
  let first: FailedLoad | null = null
  let tried = 0
  for (const [row, runner] of list.runners.entries()) {
    const { node } = runner
    const isTried = entry.request.tried.has(node.name)
    if (!isTried && !list.admits(row, entry)) continue
    const pause = node.pauseOf(runner, now)
    if (runner.residence || !pause?.isFailed) return null
    if (isTried) tried++
    else if (!first || pause.until < first.until) first = { node: node.name, until: pause.until }
  }
  return tried === entry.request.tried.size ? first : null
}

/** Keeps the cheapest few, in order. */
function insert<Each extends { readonly cost: number }>(few: Each[], each: Each): void {
  const at = few.findIndex(({ cost }) => each.cost < cost)
  few.splice(at < 0 ? few.length : at, 0, each)
  if (few.length >= recorded) few.pop()
}

function reasonOf(
  { plan, cachedTokens }: QueueEntry,
  list: Candidates,
  row: number,
  isSpill: boolean,
): Decision['reason'] {
  const runner = list.runners[row]
  if (!runner?.residence || (plan?.waitsFor === 'load' && plan.node === runner.node.name)) return 'cold-load'
  if (cachedTokens.has(runner)) return 'affinity'
  return isSpill ? 'spill' : 'warm'
}

function candidateIn(list: Candidates, row: number, entry: QueueEntry, now: number): Candidate {
  const runner = list.runners[row]
  const prompt = runner ? promptOn(runner, entry) : 0
  return candidateOf(
    runner?.node.name ?? '',
    list.costTerms(row),
    list.start(row) - now,
    prompt,
    entry.output,
  )
}
