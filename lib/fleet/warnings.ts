import { turns } from '../shared/turns.ts'
import { isBefore, isRelease } from '../shared/versions.ts'
import { CapabilityTally, listOf } from './models/capability-tally.ts'
import { copiesOn } from './models/fleet-models.ts'
import type { NodeView } from './node.ts'
import type { Snapshot } from './snapshot.ts'

type Nodes = Snapshot['nodes']

/** Versions of Ollama that answer the same request differently from earlier versions, oldest first. */
const changes: readonly { readonly version: string; readonly what: string }[] = [
  {
    version: '0.15.5',
    what: 'the default num_ctx follows the memory of the GPUs, and is 4096 before (api/types.go)',
  },
  {
    version: '0.32.10',
    what: 'the default repeat_penalty is 1.0, and 1.1 before (ollama#17679)',
  },
]

/** Nodes, and models, that one warning names. */
const maxNamed = 5

/**
 * Warnings about the nodes as a whole: each may be healthy, and answers still depend on the node. Computed in turns of the
 * event loop, since 1,000 nodes have 100,000 copies of models; later only changed nodes are read.
 */
export class FleetWarnings {
  readonly #tally = new CapabilityTally()
  #nodes: Nodes | null = null
  #warnings: readonly string[] = []
  /** The last computation: only one at a time may use the tally. */
  #last: Promise<void> = Promise.resolve()

  /** @param nodes of a snapshot, which the next one shares unless they change */
  async of(nodes: Nodes): Promise<readonly string[]> {
    const before = this.#last
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#last = promise
    try {
      await before
      if (nodes !== this.#nodes) await this.#look(nodes)
      return this.#warnings
    } finally {
      resolve()
    }
  }

  async #look(nodes: Nodes): Promise<void> {
    let turn = await turns.next()
    for (const _ of this.#tally.follow(nodes)) if (turn.isOver) turn = await turns.next()
    const warnings = versionWarnings([...nodes.values()].filter(({ spec }) => spec.state !== 'off'))
    const suspects = [...this.#tally.suspects].sort()
    for (const model of suspects.slice(0, maxNamed)) {
      if (turn.isOver) turn = await turns.next()
      warnings.push(capabilityWarning(model, nodes))
    }
    if (suspects.length > maxNamed)
      warnings.push(`${suspects.length - maxNamed} more models differ in the same way`)
    this.#warnings = warnings
    this.#nodes = nodes
  }
}

function versionWarnings(nodes: readonly NodeView[]): string[] {
  const byVersion = Map.groupBy(nodes, ({ status }) => status?.version ?? '')
  const released = [...byVersion.keys()].filter(isRelease)
  return changes.flatMap(({ version, what }) => {
    const before = new Set(released.filter((each) => isBefore(each, version)))
    if (before.size === 0 || before.size === released.length) return []
    const behind = nodes.filter(({ status }) => before.has(status?.version ?? ''))
    return `nodes have versions of Ollama that answer differently: since ${version} ${what}. Before it: ${named(behind.map(({ name, status }) => `${name} (${status?.version})`))}. Upgrade them, or set the option in requests or in the model`
  })
}

/** Equal copies on nodes of one version have the same capabilities: a copy with fewer has damaged files. */
function capabilityWarning(model: string, nodes: Nodes): string {
  const byList = new Map<string, string[]>()
  for (const [name, node] of nodes) {
    const capabilities = copiesOn(node).get(model)?.capabilities
    if (!capabilities) continue
    const list = listOf(capabilities)
    const alike = byList.get(list)
    if (alike) alike.push(name)
    else byList.set(list, [name])
  }
  const ways = [...byList].map(([list, on]) => `${list || 'nothing'} on ${named(on)}`)
  return `equal copies of ${model} can do different things: ${ways.join('; ')}. Where something is missing its files may be damaged: pull the model again there`
}

function named(names: readonly string[]): string {
  const rest = names.length - maxNamed
  return names.slice(0, maxNamed).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}
