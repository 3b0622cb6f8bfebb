import { isDeepStrictEqual } from 'node:util'
import type { Elsewhere, LoadSummary } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'
import { NodeHolds } from './node-holds.ts'

/** Milliseconds between two reads: other instances write their load once a second (`summaryPeriodMs`). */
const readEveryMs = 500

interface UsedElsewhereOptions {
  /** Load summary of each instance, by id. */
  readonly loads: () => ReadonlyMap<string, LoadSummary>
  /** Id of this instance. */
  readonly own: string
  readonly clock: Pick<Clock, 'now'>
}

/**
 * On which nodes other instances run requests or load models, and which nodes are held for a model, by the load summaries.
 * The same object as long as nothing changes.
 */
export class UsedElsewhere {
  readonly #options: UsedElsewhereOptions
  readonly #holds = new NodeHolds()
  #readAt = Number.NEGATIVE_INFINITY
  #known: Elsewhere = { uses: new Map(), holds: new Map() }

  constructor(options: UsedElsewhereOptions) {
    this.#options = options
  }

  nodes(): Elsewhere {
    const { loads, own, clock } = this.#options
    const now = clock.now()
    if (now - this.#readAt < readEveryMs) return this.#known
    this.#readAt = now
    const summaries = loads()
    const known = { uses: usesBesides(own, summaries), holds: this.#holds.update(summaries, now) }
    if (!isDeepStrictEqual(known, this.#known)) this.#known = known
    return this.#known
  }
}

function usesBesides(own: string, loads: ReadonlyMap<string, LoadSummary>): Elsewhere['uses'] {
  const uses = new Map<string, 'runs' | 'loads'>()
  for (const [id, { running, loading = [] }] of loads) {
    if (id === own) continue
    for (const node of Object.keys(running)) if (!uses.has(node)) uses.set(node, 'runs')
    for (const node of loading) uses.set(node, 'loads')
  }
  return uses
}
