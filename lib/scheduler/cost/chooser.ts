import type { Policy } from '../../fleet/policies.ts'
import type { Random } from '../../shared/random.ts'
import type { Runner } from '../fleet/runner.ts'
import type { QueueEntry } from '../queue-entry.ts'
import type { Candidates } from './candidates.ts'

/** Chooses a row for a request at once, as a load balancer in front of Ollama would; -1: none. */
export type Chooser = (list: Candidates, entry: QueueEntry) => number

/** The chooser of a policy; null for earliest-finish, which plans. */
export function chooserFor(policy: Policy, random: Random): Chooser | null {
  switch (policy) {
    case 'earliest-finish':
      return null
    case 'least-connections':
      return least(({ node }) => node.active, random)
    case 'round-robin':
      return roundRobin()
    case 'weighted':
      return least(({ node }) => (node.active + 1) / node.facts.weight, random)
    case 'resident-first':
      return least((runner) => runner.node.active + (isOpen(runner) ? 0 : closed), random)
  }
}

/** More than any node runs: a runner in memory with a free slot comes before all others. */
const closed = 1e9

function isOpen({ residence, inFlight, slots }: Runner): boolean {
  return residence !== null && inFlight.size < slots
}

function roundRobin(): Chooser {
  let turn = 0
  return (list, entry) => {
    const { length } = list.runners
    for (let nth = 0; nth < length; nth++) if (list.admits(turn++ % length, entry)) return (turn - 1) % length
    return -1
  }
}

/** The row with the lowest score; chance among equals. */
function least(score: (runner: Runner) => number, random: Random): Chooser {
  return (list, entry) => {
    let [best, lowest, equals] = [-1, Number.POSITIVE_INFINITY, 0]
    for (const [row, runner] of list.runners.entries()) {
      const each = score(runner)
      if (each > lowest || !list.admits(row, entry)) continue
      equals = each < lowest ? 1 : equals + 1
      lowest = each
      if (random() * equals < 1) best = row
    }
    return best
  }
}
