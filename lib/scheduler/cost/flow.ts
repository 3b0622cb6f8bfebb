import type { Learning } from '../learning/learning.ts'
import type { CostTable } from './cost-table.ts'

/** The capacity of the whole fleet for one variant. */
export interface Flow {
  /** Requests per second that its runners in memory complete; without one, those of the fastest node. */
  readonly perS: number
  /** Seconds per prompt token on the fastest node. */
  readonly prefillPerToken: number
  /** Seconds until the first runner is loaded; 0 when one is. */
  readonly loadS: number
}

/** How fast typical requests for the variant of a list are completed. */
export function flowOf(list: Pick<CostTable, 'runners' | 'costTerms'>, learning: Learning): Flow {
  let [loaded, best, bestLoadS, prefillPerToken] = [0, 0, 0, Number.POSITIVE_INFINITY]
  const { prompt, decoding } = learning.usual(list.runners[0]?.model ?? '')
  for (const [row, runner] of list.runners.entries()) {
    const terms = list.costTerms(row)
    const output = terms.othersWrite * decoding
    const serviceS = prompt * terms.prefillPerToken + output * terms.decodePerToken
    const perS = runner.slots / Math.max(1e-3, serviceS)
    prefillPerToken = Math.min(prefillPerToken, terms.prefillPerToken)
    if (runner.residence && !runner.isVictim) loaded += perS
    if (perS <= best) continue
    best = perS
    bestLoadS = runner.loadS
  }
  if (best === 0) return { perS: 0, prefillPerToken: 0, loadS: 0 }
  return { perS: loaded || best, prefillPerToken, loadS: loaded > 0 ? 0 : bestLoadS }
}
