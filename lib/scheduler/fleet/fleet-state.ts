import type { NodeFacts } from '../events.ts'
import type { Learning } from '../learning/learning.ts'
import type { Parameters } from '../parameters.ts'
import { NodeState } from './node-state.ts'
import type { Runner } from './runner.ts'

/** All nodes, and what they have in memory. */
export class FleetState {
  readonly #learning: Learning
  readonly #parameters: Parameters['swaps']
  readonly #nodes = new Map<string, NodeState>()
  /** Nodes that left the fleet while requests ran there: the requests still run when the node comes back. */
  readonly #departed = new Map<string, NodeState>()
  #residencyStamp = 0
  /** Cache of `replicas`, by model and variant. */
  readonly #replicas = new Map<string, number>()
  /** Bytes in memory as last seen on any node, by model. */
  readonly #sizes = new Map<string, number>()

  constructor(learning: Learning, parameters: Parameters['swaps']) {
    this.#learning = learning
    this.#parameters = parameters
  }

  /** Increases when a model comes into memory or leaves it, and when the fleet changes. */
  get residencyStamp(): number {
    return this.#residencyStamp
  }

  node(name: string): NodeState | undefined {
    return this.#nodes.get(name)
  }

  get nodes(): Iterable<NodeState> {
    return this.#nodes.values()
  }

  /** Takes in the whole fleet. A missing node is forgotten, but not what was learned from it. */
  update(facts: readonly NodeFacts[], now: number): void {
    const names = new Set(facts.map(({ name }) => name))
    for (const [name, node] of this.#nodes) if (!names.has(name)) this.#remove(name, node)
    for (const [name, node] of this.#departed) if (node.active === 0) this.#departed.delete(name)
    for (const each of facts) {
      const node = this.#nodes.get(each.name) ?? this.#add(each)
      for (const { model, size } of each.resident) this.#sizes.set(model, size)
      node.update(each, now)
    }
    this.residencyChanged()
  }

  /** Call it when a model came into memory or left it. */
  residencyChanged(): void {
    this.#residencyStamp++
    this.unfollow()
    this.#replicas.clear()
  }

  /** The variant on every available node that has the model on its disk. */
  runners(model: string, variant: string): Runner[] {
    const runners: Runner[] = []
    for (const node of this.#nodes.values())
      if (node.facts.available && node.facts.models.has(model)) runners.push(node.runner(model, variant))
    return runners
  }

  /** Has all nodes forget their followers. */
  unfollow(): void {
    for (const node of this.#nodes.values()) node.unfollow()
  }

  /** Nodes with a usable runner in memory that serves the same variant. */
  replicas({ model, variant }: Runner): number {
    const key = `${model}\n${variant}`
    const known = this.#replicas.get(key)
    if (known !== undefined) return known
    let count = 0
    for (const node of this.#nodes.values()) {
      const runner = node.loaded.get(model)
      if (runner?.serves(variant) && isUsable(runner)) count++
    }
    this.#replicas.set(key, count)
    return count
  }

  /** Bytes of a runner in memory: as last seen, else estimated from its file. */
  size({ model, residence, node }: Runner): number {
    const seen = residence?.size ?? this.#sizes.get(model)
    if (seen !== undefined) return seen
    const { memoryPerByte, memoryBesides } = this.#parameters
    return memoryPerByte * (node.facts.models.get(model) ?? 0) + memoryBesides
  }

  #remove(name: string, node: NodeState): void {
    this.#nodes.delete(name)
    node.endSwap()
    node.unfollow()
    this.#departed.set(name, node)
  }

  #add(facts: NodeFacts): NodeState {
    const node = this.#departed.get(facts.name) ?? new NodeState(facts, this.#learning, this.#parameters)
    this.#departed.delete(facts.name)
    this.#nodes.set(facts.name, node)
    return node
  }
}

/** Whether its operator, the leader's advice and its breaker all allow new requests. */
function isUsable({ barrier, node }: Runner): boolean {
  const { available, advice } = node.facts
  const isKeptAway = barrier === 'ejected' || barrier === 'frozen' || barrier === 'refused'
  return available && advice !== 'down' && !isKeptAway
}
