import type { LoadSummary } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'

/**
 * Milliseconds by which a summary may be older than its arrival: a second between two writes, and the latency of the
 * store.
 */
const lagMs = 2000

interface Report {
  readonly id: string
  /** Monotonic milliseconds. The node answered at that time or later. */
  readonly at: number
}

/**
 * Which nodes answered requests of other instances, by their load summaries. Since clocks of machines differ, a summary
 * has a counter per node, and the time at which this instance saw the counter change is what counts.
 */
export class PeerReports {
  readonly #clock: Clock
  readonly #seen = new Map<string, NonNullable<LoadSummary['reached']>>()
  /** The newest report by node. */
  readonly #reports = new Map<string, Report>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Notes the summary of another instance; null: the instance is gone. The first summary only sets the counters. */
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

  /** Notes that an instance has just reached a node. */
  reached(node: string, id: string): void {
    this.#reports.set(node, { id, at: this.#clock.now() })
  }

  /** The last report of a node: by which instance it was reached, and when. */
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
