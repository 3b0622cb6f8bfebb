import { matchesLabels } from '../fleet/schema.ts'
import type { NodeFacts, Work } from './events.ts'
import type { Learning } from './learning.ts'
import { NodeState } from './node-state.ts'
import type { Parameters } from './parameters.ts'
import type { Runner } from './runner.ts'

/** Lists are kept for so many variants: callers choose them. */
const listsKept = 1000

/** All nodes, and for each variant the places where it may run. */
export class FleetState {
  readonly #learning: Learning
  readonly #rules: Parameters['swaps']
  readonly #nodes = new Map<string, NodeState>()
  readonly #candidates = new Map<string, readonly Runner[]>()
  readonly #replicas = new Map<string, number>()
  /** Bytes in memory as last seen anywhere, by model. */
  readonly #sizes = new Map<string, number>()

  constructor(learning: Learning, rules: Parameters['swaps']) {
    this.#learning = learning
    this.#rules = rules
  }

  node(name: string): NodeState | undefined {
    return this.#nodes.get(name)
  }

  nodes(): Iterable<NodeState> {
    return this.#nodes.values()
  }

  /** Takes in the whole fleet; whoever is missing is forgotten, but not what it taught. */
  update(facts: readonly NodeFacts[], now: number): void {
    const names = new Set(facts.map(({ name }) => name))
    for (const name of this.#nodes.keys()) if (!names.has(name)) this.#nodes.delete(name)
    for (const each of facts) {
      let node = this.#nodes.get(each.name)
      if (!node) {
        node = new NodeState(each, this.#learning, this.#rules)
        this.#nodes.set(each.name, node)
      }
      for (const { model, size } of each.resident) this.#sizes.set(model, size)
      node.look(each, now)
    }
    this.residencyChanged()
  }

  /** Something came into memory or left it. */
  residencyChanged(): void {
    this.#candidates.clear()
    this.#replicas.clear()
    for (const node of this.#nodes.values())
      for (const model of node.loaded.keys()) this.#replicas.set(model, this.replicas(model) + 1)
  }

  /** The variant on every available node that has the model on its disk. */
  candidates(model: string, variant: string): readonly Runner[] {
    const key = `${model}\n${variant}`
    const known = this.#candidates.get(key)
    if (known) return known
    const found: Runner[] = []
    for (const node of this.#nodes.values())
      if (node.facts.available && node.facts.models.has(model)) found.push(node.runner(model, variant))
    if (this.#candidates.size >= listsKept) this.#candidates.clear()
    this.#candidates.set(key, found)
    return found
  }

  /** Those of them that the request may use. */
  candidatesFor(work: Work): readonly Runner[] {
    const all = this.candidates(work.model, work.variant)
    if (work.tried.size === 0 && Object.keys(work.nodes).length === 0) return all
    return all.filter(
      ({ node }) => !work.tried.has(node.name) && matchesLabels(work.nodes, node.facts.labels),
    )
  }

  /** Nodes with the model in memory. */
  replicas(model: string): number {
    return this.#replicas.get(model) ?? 0
  }

  /** Bytes that a runner takes in memory. */
  size({ model, residence, node }: Runner): number {
    return residence?.size ?? this.#sizes.get(model) ?? node.facts.models.get(model) ?? 0
  }
}
