import { ChurnMap } from '../../shared/churn-map.ts'
import type { SchedulerEvent } from '../events.ts'
import { type GrantParts, RunningRequest } from './grant.ts'

/** Requests that have a slot, until they are over. */
export class RunningRequests {
  /** By the id that the core knows them by. */
  readonly #byId = new ChurnMap<string, RunningRequest>()
  /** How many, by node, without the idle ones. */
  readonly #counts = new Map<string, number>()

  readonly #tell: (event: SchedulerEvent) => void

  /** @param tell the core. */
  constructor(tell: (event: SchedulerEvent) => void) {
    this.#tell = tell
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  /** Requests running on a node. */
  on(node: string): number {
    return this.#counts.get(node) ?? 0
  }

  /** How many, by node, without the idle ones. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /** How many for a model, by node, without the idle ones. */
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

  /** Has all of them tell how far they are. */
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
