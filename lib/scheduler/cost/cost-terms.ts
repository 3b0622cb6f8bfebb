import type { Candidate } from '../events.ts'
import type { Runner } from '../fleet/runner.ts'
import { endsOf, slowBytes } from './completion.ts'
import type { CostContext } from './cost-context.ts'
import { type Eviction, evictionFor } from './eviction.ts'

/**
 * The part of a runner's cost that does not depend on the request (docs/routing.md#cost). It is computed when something
 * changed on the node, and kept: placing a request is then a few multiplications per node.
 */
export interface CostTerms {
  /** The stamp of the node when they were computed. */
  readonly stamp: number
  /** When they were computed: time alone changes some of them. */
  readonly at: number
  readonly state: Candidate['state']
  /** When a slot is free; 0: now, Infinity: unknown. */
  readonly start: number
  /** When each slot will be free; empty when one is free now. */
  readonly slotEnds: readonly number[]
  readonly freeSlots: number
  readonly prefillPerToken: number
  readonly decodePerToken: number
  /** Slowdown of the runner's streams, per common token. */
  readonly externalityPerToken: number
  /** Expected output tokens of those streams. */
  readonly othersWrite: number
  /** Seconds that others stall per second of prefill. */
  readonly stall: number
  /** GPU time that other runners lose per output token. */
  readonly sharingPerToken: number
  readonly eviction: Eviction | null
  /** The weighted sums that make the cost of a request: fixed seconds, and seconds per prompt, output and common token. */
  readonly fixed: number
  readonly perPromptToken: number
  readonly perOutputToken: number
  readonly perCommonToken: number
}

/** Ties go to the row with more free slots: this makes a load lose every tie, also against a load under way. */
const fewestSlots = -1

/** The state of a runner for the next request, and when it has a slot. */
interface Opening {
  readonly state: Candidate['state']
  readonly slotEnds: readonly number[]
  readonly freeSlots: number
  readonly eviction: Eviction | null
}

/** Computes the terms as of now. */
export function computeTerms(runner: Runner, context: CostContext, now: number): CostTerms {
  const { node, pace, inFlight } = runner
  const { cost, uses } = context.parameters
  const opening = openingOf(runner, context, now)
  const bytes = slowBytes(runner, context)
  const busy = 1 + node.busy - (inFlight.size > 0 ? 1 : 0)
  // A request that waits for a slot runs beside the others, but not beside the one that freed the slot.
  const others = Math.min(inFlight.size, runner.slots - 1)
  const solo = pace.usualSecondsPerToken(bytes)
  const { slowdown } = pace
  const decodePerToken = solo * (1 + slowdown * others) * busy
  // What a full runner will be reading once a slot is free is unknown.
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
  // The start is unknown until the pause or the trial ends.
  if (runner.barrier === 'busy' || runner.barrier === 'trial' || node.isTried) return never
  if (runner.isHeld) return never
  if (runner.residence || !context.parameters.uses.residency) {
    if (freeSlots > 0) return { state: 'ready', slotEnds: [], freeSlots, eviction: null }
    // If more requests run than there are slots, the surplus must end first: the last ones to end hold the slots.
    const ends = endsOf(runner, context, now).sort((a, b) => a - b)
    return { state: 'full', slotEnds: ends.slice(-slots), freeSlots, eviction: null }
  }
  const eviction = evictionFor(runner, context, now)
  if (!eviction) return never
  const loadedAt = eviction.drainedAt + runner.loadS
  return { state: 'absent', slotEnds: Array(slots).fill(loadedAt), freeSlots: fewestSlots, eviction }
}

/** The least number; Infinity if there is none. */
export function earliest(ends: readonly number[]): number {
  let first = Number.POSITIVE_INFINITY
  for (const end of ends) if (end < first) first = end
  return first
}

/** Expected end of the swap for a runner. The longer it is overdue, the later the expected end: it may hang. */
function swapEnd(runner: Runner, context: CostContext, now: number): number {
  const { swap } = runner.node
  if (!swap) return now
  if (swap.requestedAt !== null) {
    const due = swap.requestedAt + runner.loadS
    return due + 2 * Math.max(0, now - due)
  }
  const ends = swap.victims.flatMap((victim) => endsOf(victim, context, now))
  return Math.max(now, ...ends) + runner.loadS
}

/** The cost of a request with so many tokens, term by term. @param wait seconds until a slot is free. */
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
