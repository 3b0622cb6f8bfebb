import type { Work } from './events.ts'
import { restOf, type Surroundings } from './predicted-end.ts'
import type { Runner } from './runner.ts'
import { loadS, termsOf } from './terms.ts'

/** What the fleet does for one variant, taken together. */
export interface Flow {
  /** Requests of its kind per second that all its runners complete; 0: nobody can tell. */
  readonly perS: number
  /** Seconds per prompt token where it is fastest. */
  readonly prefillPerToken: number
  /** Seconds until the first runner is loaded; 0 when one is. */
  readonly loadS: number
}

/**
 * How fast requests like this one are completed: by the runners in memory, or by the fastest one that could be loaded. It
 * tells how long a line is in seconds, where placing everybody in it would take too long.
 */
export function flowOf(work: Work, runners: readonly Runner[], around: Surroundings, now: number): Flow {
  const output = restOf(work, 0, around.learning)
  const flow = { perS: 0, prefillPerToken: Number.POSITIVE_INFINITY, loadS: 0 }
  let best = 0
  for (const runner of runners) {
    const terms = termsOf(runner, around, now)
    const serviceS = work.promptTokens * terms.prefillPerToken + output * terms.decodePerToken
    const perS = runner.slots / Math.max(1e-3, serviceS)
    flow.prefillPerToken = Math.min(flow.prefillPerToken, terms.prefillPerToken)
    if (runner.residence && !runner.isVictim) flow.perS += perS
    if (perS <= best) continue
    best = perS
    flow.loadS = loadS(runner)
  }
  if (flow.perS > 0) flow.loadS = 0
  else flow.perS = best
  if (flow.prefillPerToken === Number.POSITIVE_INFINITY) flow.prefillPerToken = 0
  return flow
}
