import type { LoadSummary } from '../fleet/instance.ts'
import type { Clock } from '../shared/clock.ts'

/** Milliseconds by which a summary may be older than its arrival: it is written once a second, and the store takes its time. */
const lagMs = 2000

interface Report {
  readonly id: string
  /** Monotonic milliseconds: the node answered then or later. */
  readonly at: number
}

/**
 * What other instances tell of the nodes in their load summaries: which of them answered requests. Clocks of other machines
 * prove nothing, so a number that moved counts, at the time when it was seen to move.
 */
export class PeerReports {
  readonly #clock: Clock
  readonly #seen = new Map<string, NonNullable<LoadSummary['reached']>>()
  /** By node, the newest. */
  readonly #reports = new Map<string, Report>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Takes note of the summary of another instance; null: it is gone. The first one of an instance does not tell of when. */
  observe(id: string, load: LoadSummary | null): void {
    const before = this.#seen.get(id)
    if (load === null) {
      this.#seen.delete(id)
      return
    }
    const { reached = {} } = load
    this.#seen.set(id, reached)
    if (!before) return
    for (const [node, count] of Object.entries(reached))
      if (count !== before[node]) this.#reports.set(node, { id, at: this.#clock.now() - lagMs })
  }

  /** A node that an instance has just reached. */
  reached(node: string, id: string): void {
    this.#reports.set(node, { id, at: this.#clock.now() })
  }

  /** Who reached a node last, and when. */
  of(node: string): Report | null {
    return this.#reports.get(node) ?? null
  }

  /** The newest report of any of the nodes. */
  newest(nodes: Iterable<string>): Report | null {
    let newest: Report | null = null
    for (const node of nodes) {
      const report = this.of(node)
      if (report && report.at > (newest?.at ?? Number.NEGATIVE_INFINITY)) newest = report
    }
    return newest
  }

  /** Forgets nodes that left the fleet. */
  keepOnly(nodes: ReadonlyMap<string, unknown>): void {
    for (const name of this.#reports.keys()) if (!nodes.has(name)) this.#reports.delete(name)
  }
}
