import type { LoadSummary } from '../fleet/instance.ts'
import type { Clock } from '../shared/clock.ts'

/** Other instances write what they do once a second: to read it more often tells nothing new. */
const readEveryMs = 500

interface UsedElsewhereOptions {
  /** What each instance is doing, by id. */
  readonly loads: () => ReadonlyMap<string, LoadSummary>
  /** Id of this instance. */
  readonly own: string
  readonly clock: Clock
}

/** The nodes on which other instances have requests running, as these tell. */
export class UsedElsewhere {
  readonly #options: UsedElsewhereOptions
  #readAt = Number.NEGATIVE_INFINITY
  #nodes: ReadonlySet<string> = new Set()

  constructor(options: UsedElsewhereOptions) {
    this.#options = options
  }

  nodes(): ReadonlySet<string> {
    const { loads, own, clock } = this.#options
    if (clock.now() - this.#readAt < readEveryMs) return this.#nodes
    this.#readAt = clock.now()
    const others = [...loads()].filter(([id]) => id !== own)
    this.#nodes = new Set(others.flatMap(([, { running }]) => Object.keys(running)))
    return this.#nodes
  }
}
