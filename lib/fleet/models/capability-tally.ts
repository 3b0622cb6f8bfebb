import type { InventoryModel, NodeStatus, NodeView } from '../node.ts'
import { statusInService } from './fleet-models.ts'

/** How many nodes list these capabilities for equal copies on one version. By the capabilities, as `listOf` spells them. */
type Lists = Map<string, number>

/** The nodes' lists for one model. */
interface Tally {
  /** By digest and version of Ollama: the lists must be equal. */
  readonly alike: Map<string, Lists>
  /** How many of them have more than one list. */
  differing: number
}

/**
 * Counts the capabilities of copies of models, node by node: a node's earlier list is subtracted when it sends another one. A
 * change costs one pass over that node's models, however many nodes there are.
 */
export class CapabilityTally {
  readonly #counted = new Map<string, NodeStatus>()
  readonly #models = new Map<string, Tally>()
  readonly #suspects = new Set<string>()

  /** Models of which equal copies, on one version, list different capabilities. */
  get suspects(): ReadonlySet<string> {
    return this.#suspects
  }

  /** Counts the nodes as they are now. Yields after every model; the caller may pause there, and must finish. */
  *follow(nodes: ReadonlyMap<string, NodeView>): Generator<void, void> {
    for (const name of this.#counted.keys()) if (!nodes.has(name)) yield* this.#replace(name, null)
    for (const [name, node] of nodes) yield* this.#replace(name, statusInService(node))
  }

  *#replace(name: string, now: NodeStatus | null): Generator<void, void> {
    const before = this.#counted.get(name) ?? null
    if (before === now) return
    if (now) this.#counted.set(name, now)
    else this.#counted.delete(name)
    if (before && now && before.models === now.models && before.version === now.version) return
    if (now) yield* this.#countAll(now, 1)
    if (before) yield* this.#countAll(before, -1)
  }

  *#countAll({ models, version }: NodeStatus, by: 1 | -1): Generator<void, void> {
    for (const model of models) {
      this.#count(model, version, by)
      yield
    }
  }

  #count({ name, digest, capabilities }: InventoryModel, version: string, by: 1 | -1): void {
    if (!capabilities) return
    const tally = this.#models.get(name) ?? { alike: new Map<string, Lists>(), differing: 0 }
    const copy = `${digest} ${version}`
    const lists = tally.alike.get(copy) ?? new Map<string, number>()
    const differed = lists.size > 1
    add(lists, listOf(capabilities), by)
    tally.differing += Number(lists.size > 1) - Number(differed)
    keep(tally.alike, copy, lists, lists.size > 0)
    keep(this.#models, name, tally, tally.alike.size > 0)
    if (tally.differing > 0) this.#suspects.add(name)
    else this.#suspects.delete(name)
  }
}

/** Capabilities as text, for people and for comparing: the order of a node's list has no meaning. */
export function listOf(capabilities: readonly string[]): string {
  return capabilities.toSorted().join(', ')
}

function add(lists: Lists, list: string, by: 1 | -1): void {
  const count = (lists.get(list) ?? 0) + by
  keep(lists, list, count, count > 0)
}

function keep<T>(map: Map<string, T>, key: string, value: T, isKept: boolean): void {
  if (isKept) map.set(key, value)
  else map.delete(key)
}
