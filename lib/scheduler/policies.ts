import type { Dice } from '../shared/loop.ts'
import type { Runner } from './runner.ts'

/** How nodes are chosen; all but the first are there to compare with. */
export const policies = [
  'earliest-finish',
  'least-connections',
  'round-robin',
  'weighted',
  'resident-first',
] as const
export type Policy = (typeof policies)[number]

/** One of the nodes that have the model on disk, at once, as a load balancer in front of Ollama would choose. */
export type Chooser = (runners: readonly Runner[]) => Runner | undefined

/** The chooser of a policy; null for the one that plans. */
export function chooserFor(policy: Policy, dice: Dice): Chooser | null {
  switch (policy) {
    case 'earliest-finish':
      return null
    case 'least-connections':
      return (runners) => leastOf(runners, ({ node }) => node.active, dice)
    case 'round-robin':
      return roundRobin()
    case 'weighted':
      return (runners) => leastOf(runners, ({ node }) => (node.active + 1) / node.facts.weight, dice)
    case 'resident-first':
      return (runners) => leastOf(loadedWithSlots(runners), ({ node }) => node.active, dice)
  }
}

function roundRobin(): Chooser {
  let turn = 0
  return (runners) => runners[turn++ % runners.length]
}

/** Where the model is in memory and a slot is free; everywhere when that is nowhere. */
function loadedWithSlots(runners: readonly Runner[]): readonly Runner[] {
  const loaded = runners.filter(({ residence, flights, slots }) => residence && flights.size < slots)
  return loaded.length > 0 ? loaded : runners
}

/** The runner of the lowest score; any of equals. */
function leastOf(runners: readonly Runner[], score: (runner: Runner) => number, dice: Dice) {
  let best: Runner | undefined
  let least = Number.POSITIVE_INFINITY
  let equals = 0
  for (const runner of runners) {
    const each = score(runner)
    if (each > least) continue
    equals = each < least ? 1 : equals + 1
    least = each
    if (dice() * equals < 1) best = runner
  }
  return best
}
