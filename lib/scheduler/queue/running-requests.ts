import { ChurnMap } from '../../shared/churn-map.ts'
import type { SchedulerEvent } from '../events.ts'
import { type GrantParts, RunningRequest } from './grant.ts'

/** Requests of this instance that hold a slot. */
export class RunningRequests {
  /** By their id in the core. */
  readonly #byId = new ChurnMap<string, RunningRequest>()
  /** Requests by node; idle nodes are absent. */
  readonly #counts = new Map<string, number>()

  readonly #tell: (event: SchedulerEvent) => void

  /** @param tell passes an event to the core. */
  constructor(tell: (event: SchedulerEvent) => void) {
    this.#tell = tell
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  /** Requests that run on a node. */
  on(node: string): number {
    return this.#counts.get(node) ?? 0
  }

  /** Requests by node; idle nodes are absent. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /** Requests for a model by node; idle nodes are absent. */
  countsOf(model: string): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (const running of this.#byId.values()) if (running.model === model) add(counts, running.node.name, 1)
    return counts
  }

  start(parts: GrantParts): RunningRequest {
    const running = new RunningRequest(parts, this.#tell, this.#over)
    this.#byId.set(parts.id, running)
    add(this.#counts, parts.node.name, 1)
    return running
  }

  /** Has each request report its tokens so far. */
  report(): void {
    for (const running of this.#byId.values()) running.report()
  }

  readonly #over = ({ id, node }: RunningRequest) => {
    this.#byId.delete(id)
    add(this.#counts, node.name, -1)
  }
}

function add(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
