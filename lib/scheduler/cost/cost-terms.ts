import type { Candidate } from '../events.ts'
import type { Runner } from '../fleet/runner.ts'
import { endsOf, slowBytes } from './completion.ts'
import type { CostContext } from './context.ts'
import { type Eviction, evictionFor } from './eviction.ts'

/**
 * What a runner costs whoever comes next (docs/routing.md#cost), as far as it does not depend on the request. Worked out
 * when something changed on its node, and kept: placing a request is then a few multiplications per node.
 */
export interface CostTerms {
  /** The node's stamp that they belong to. */
  readonly stamp: number
  /** When they were worked out: time alone changes some of them. */
  readonly at: number
  readonly state: Candidate['state']
  /** When a slot is free; 0: it is, Infinity: nobody can tell. */
  readonly start: number
  /** When each slot will be free; empty when one is. */
  readonly slotEnds: readonly number[]
  readonly freeSlots: number
  readonly prefillPerToken: number
  readonly decodePerToken: number
  /** Slowdown of the runner's streams, per token that both write. */
  readonly externalityPerToken: number
  /** Tokens that those streams are expected to write. */
  readonly othersWrite: number
  /** Seconds that others stall for a second of prefill. */
  readonly stall: number
  /** GPU time taken from other runners, per output token. */
  readonly sharingPerToken: number
  readonly eviction: Eviction | null
  /** The weighted sums that the cost of a request is made of: seconds per prompt token, output token, token in common. */
  readonly fixed: number
  readonly perPromptToken: number
  readonly perOutputToken: number
  readonly perCommonToken: number
}

/** Of costs about equal one without a load is taken: of two loads that end together, the one under way. */
const fewestSlots = -1

/** When and in which state the next request finds a runner. */
interface Opening {
  readonly state: Candidate['state']
  readonly slotEnds: readonly number[]
  readonly freeSlots: number
  readonly eviction: Eviction | null
}

/** The terms as of now. */
export function computeTerms(runner: Runner, context: CostContext, now: number): CostTerms {
  const { node, pace, inFlight } = runner
  const { cost, uses } = context.rules
  const opening = openingOf(runner, context, now)
  const bytes = slowBytes(runner, context)
  const busy = 1 + node.busy - (inFlight.size > 0 ? 1 : 0)
  // Whoever waits for a slot finds the others, but not the one that made way.
  const others = Math.min(inFlight.size, runner.slots - 1)
  const solo = pace.usualSecondsPerToken(bytes)
  const { slowdown } = pace
  const decodePerToken = solo * (1 + slowdown * others) * busy
  // Nobody knows what a runner will be reading once a slot is free.
  const readers = opening.state === 'ready' ? runner.time.readers : 0
  const prefillPerToken = busy / pace.prefillRateAmong(readers, bytes)
  const counts = uses.externality ? 1 : 0
  const externalityPerToken = counts * others * cost.streamSlowdown * solo * slowdown * busy
  const stall = counts * cost.prefillStall * Math.min(node.active, cost.stalledStreams)
  const sharingPerToken = inFlight.size === 0 ? counts * node.active * decodePerToken * cost.timeSharing : 0
  return {
    ...opening,
    start: opening.state === 'ready' ? 0 : earliest(opening.slotEnds),
    stamp: node.stamp,
    at: now,
    prefillPerToken,
    decodePerToken,
    externalityPerToken,
    othersWrite: context.learning.output(runner.model),
    stall,
    sharingPerToken,
    fixed: opening.eviction?.penalty ?? 0,
    perPromptToken: prefillPerToken * (1 + cost.externality * stall),
    perOutputToken: cost.decode * decodePerToken + cost.externality * sharingPerToken,
    perCommonToken: cost.externality * externalityPerToken,
  }
}

function openingOf(runner: Runner, context: CostContext, now: number): Opening {
  const { node, inFlight, slots } = runner
  const never: Opening = { state: 'absent', slotEnds: [], freeSlots: 0, eviction: null }
  const freeSlots = Math.max(0, slots - inFlight.size)
  if (runner.isVictim) return never
  if (node.swap?.runner === runner) {
    const loadedAt = Math.max(now, swapEnd(runner, context, now))
    return { state: 'loading', slotEnds: Array(slots).fill(loadedAt), freeSlots, eviction: null }
  }
  // A pause ends, and a trial tells: until then nobody knows.
  if (runner.barrier === 'busy' || runner.barrier === 'trial' || node.isTried) return never
  if (runner.isHeld) return never
  if (runner.residence || !context.rules.uses.residency) {
    if (freeSlots > 0) return { state: 'ready', slotEnds: [], freeSlots, eviction: null }
    // As many must end before the next starts as are too many: the last ones to end hold the slots.
    const ends = endsOf(runner, context, now).sort((a, b) => a - b)
    return { state: 'full', slotEnds: ends.slice(-slots), freeSlots, eviction: null }
  }
  const eviction = evictionFor(runner, context, now)
  if (!eviction) return never
  const loadedAt = eviction.drainedAt + runner.loadS
  return { state: 'absent', slotEnds: Array(slots).fill(loadedAt), freeSlots: fewestSlots, eviction }
}

/** Infinity for none. */
export function earliest(ends: readonly number[]): number {
  let first = Number.POSITIVE_INFINITY
  for (const end of ends) if (end < first) first = end
  return first
}

/** When the swap under way for a runner will be over. The longer one is overdue, the longer it will be: it may hang. */
function swapEnd(runner: Runner, context: CostContext, now: number): number {
  const { swap } = runner.node
  if (!swap) return now
  if (swap.askedAt !== null) {
    const due = swap.askedAt + runner.loadS
    return due + 2 * Math.max(0, now - due)
  }
  const ends = swap.victims.flatMap((victim) => endsOf(victim, context, now))
  return Math.max(now, ...ends) + runner.loadS
}

/** What a request costs, term by term. @param wait for a slot, seconds. @param prompt tokens to read. @param output tokens to write. */
export function candidateOf(
  node: string,
  terms: CostTerms,
  wait: number,
  prompt: number,
  output: number,
): Candidate {
  const start = Math.max(0, wait)
  const prefill = prompt * terms.prefillPerToken
  const common = Math.min(output, terms.othersWrite)
  return {
    node,
    state: terms.state,
    start,
    prefill,
    decode: output * terms.decodePerToken,
    externality: common * terms.externalityPerToken + prefill * terms.stall + output * terms.sharingPerToken,
    eviction: terms.fixed,
    cost:
      start +
      terms.fixed +
      prompt * terms.perPromptToken +
      output * terms.perOutputToken +
      common * terms.perCommonToken,
  }
}
