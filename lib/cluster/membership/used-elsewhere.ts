import type { Elsewhere, LoadSummary } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'

/** Milliseconds between two reads: other instances write their load once a second. */
const readEveryMs = 500

interface UsedElsewhereOptions {
  /** Load summary of each instance, by id. */
  readonly loads: () => ReadonlyMap<string, LoadSummary>
  /** Id of this instance. */
  readonly own: string
  readonly clock: Clock
}

/** On which nodes other instances run requests or load models, by their load summaries. */
export class UsedElsewhere {
  readonly #options: UsedElsewhereOptions
  #readAt = Number.NEGATIVE_INFINITY
  #nodes: Elsewhere = new Map()

  constructor(options: UsedElsewhereOptions) {
    this.#options = options
  }

  nodes(): Elsewhere {
    const { loads, own, clock } = this.#options
    if (clock.now() - this.#readAt < readEveryMs) return this.#nodes
    this.#readAt = clock.now()
    const nodes = new Map<string, 'runs' | 'loads'>()
    for (const [id, { running, loading = [] }] of loads()) {
      if (id === own) continue
      for (const node of Object.keys(running)) if (!nodes.has(node)) nodes.set(node, 'runs')
      for (const node of loading) nodes.set(node, 'loads')
    }
    this.#nodes = nodes
    return nodes
  }
}
