import type { AgentRecord } from '../../fleet/instance.ts'
import type { NodeDeparture, NodeSpec, NodeStatus } from '../../fleet/node.ts'
import type { DepartedNode } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { type RememberedNode, type RememberedRecord, rememberedIn } from './remembered-nodes.ts'
import type { Judged } from './stored-documents.ts'

/** What decides which nodes have departed. */
interface Present {
  /** Every node that is stored or in force, valid or not. */
  readonly nodes: ReadonlyMap<string, Judged<NodeSpec>>
  /** The record of the agent that registers a node; null when there is none. */
  readonly agentOf: (node: string) => AgentRecord | null
  /** The last status of a node. */
  readonly statusOf: (name: string) => NodeStatus | null
}

interface Known {
  readonly memory: RememberedNode
  readonly node: DepartedNode
}

/**
 * The departed nodes: those that agents registered once and that are not registered now. The record that the leader
 * writes says since when and why. Until the record arrives, each instance uses what it saw itself, so that a model is
 * never unknown in between.
 */
export class Departures {
  readonly #clock: Clock
  #memories: ReadonlyMap<string, RememberedNode> = new Map()
  #known: ReadonlyMap<string, Known> = new Map()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** By name. A node that did not change keeps its object. */
  get nodes(): Map<string, DepartedNode> {
    return new Map([...this.#known].map(([name, { node }]) => [name, node]))
  }

  get count(): number {
    return this.#known.size
  }

  update(memories: ReadonlyMap<string, RememberedNode>, present: Present): void {
    const former = this.#known
    const known = new Map<string, Known>()
    const urls = new Set([...present.nodes.values()].map(({ active }) => active?.value.url))
    for (const [name, memory] of memories) {
      if (present.nodes.has(name) || urls.has(memory.spec.url)) continue
      const before = former.get(name)
      const isSame = before?.memory.document === memory.document && before.memory.departed === memory.departed
      known.set(name, isSame ? before : { memory, node: this.#depart(name, memory, present) })
    }
    this.#memories = memories
    this.#known = known
  }

  /** Begins with what an earlier process saved. */
  restore(saved: Readonly<Record<string, RememberedRecord>>, present: Present): void {
    const memories = Object.entries(saved).flatMap(([name, memory]) => {
      const remembered = rememberedIn(memory)
      return remembered ? [[name, remembered] as const] : []
    })
    this.update(new Map(memories), present)
  }

  /** For the next process, including departures that no leader has recorded yet. */
  saved(): Record<string, RememberedRecord> {
    return Object.fromEntries(
      [...this.#memories].map(([name, { spec: _, ...memory }]): [string, RememberedRecord] => {
        const node = this.#known.get(name)?.node
        if (!node) return [name, memory]
        const { version, models } = node.status
        return [name, { ...memory, version, models, departed: node.departure }]
      }),
    )
  }

  #depart(name: string, memory: RememberedNode, { agentOf, statusOf }: Present): DepartedNode {
    const { fence, spec } = memory
    const departure = memory.departed ?? this.#notice(agentOf(name))
    const seen = memory.departed === null ? statusOf(name) : memory
    return {
      spec: { ...spec, state: 'cordoned' },
      departure,
      status: {
        fence,
        health: 'down',
        ...departure,
        version: seen?.version ?? '',
        models: seen?.models ?? [],
        loaded: [],
        weight: 0,
      },
    }
  }

  #notice(agent: AgentRecord | null): NodeDeparture {
    return { since: this.#clock.date().toISOString(), reason: reasonOf(agent) }
  }
}

function reasonOf(agent: AgentRecord | null): string {
  if (!agent) return 'the lease of its agent ran out: the host, its network or the agent is down'
  if (agent.stopped) return 'its agent was stopped'
  if (agent.reason)
    return `its agent withdrew it, since the Ollama server there does not answer: ${agent.reason}`
  return 'its agent withdrew it'
}
