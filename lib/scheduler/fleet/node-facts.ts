import { isDeepStrictEqual } from 'node:util'
import type { Elsewhere } from '../../fleet/instance.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { NodeFacts } from '../events.ts'
import type { AvailabilityBarrier, FleetAvailability } from './availability.ts'

/** Sources of facts about nodes, besides the snapshot. */
interface FactSources {
  readonly upstreams: FleetAvailability
  /** What other instances do with the nodes, and what the nodes are held for. */
  readonly usedElsewhere: () => Elsewhere
  /** Whether this instance leads. */
  readonly leads: () => boolean
}

/** Facts that may change while the node's view stays the same. */
type Passing = Leave & Required<Pick<NodeFacts, 'barriers' | 'warmLimit' | 'isOnTrial'>>

interface Known {
  readonly view: NodeView
  readonly facts: NodeFacts & Passing
}

/** Facts of the fleet for the scheduler's core. An unchanged node yields the same object as last time. */
export class FleetFacts {
  readonly #context: FactSources
  #known = new Map<string, Known>()

  constructor(around: FactSources) {
    this.#context = around
  }

  read({ nodes }: Snapshot): readonly NodeFacts[] {
    const { upstreams, usedElsewhere, leads } = this.#context
    const elsewhere = usedElsewhere()
    const isLeader = leads()
    const former = this.#known
    this.#known = new Map()
    for (const [name, view] of nodes) {
      const last = former.get(name)
      const passing = passingOf(view, upstreams, leaveOn(name, elsewhere, isLeader))
      const isKnown = last !== undefined && last.view === view && isAlike(last.facts, passing)
      this.#known.set(name, isKnown ? last : { view, facts: { ...lasting(view), ...passing } })
    }
    return Array.from(this.#known.values(), ({ facts }) => facts)
  }
}

/** What the other instances leave to this one on a node. */
export type Leave = Required<Pick<NodeFacts, 'room' | 'hold'>>

/** What an instance may do on a node, by what other instances do there; only the leader may evict any model. */
export function leaveOn(node: string, { uses, holds }: Elsewhere, leads: boolean): Leave {
  return { room: roomIn(uses.get(node), leads ? 'any' : 'missing'), hold: holds.get(node) ?? null }
}

/** Another instance that uses a node may use every model in its memory; of two loads at once Ollama may undo the first. */
function roomIn(elsewhere: 'runs' | 'loads' | undefined, own: Leave['room']): Leave['room'] {
  if (elsewhere === 'loads') return 'none'
  return elsewhere === 'runs' ? 'free' : own
}

function passingOf({ name, onDisk }: NodeView, upstreams: FleetAvailability, { room, hold }: Leave): Passing {
  const barriers = new Map<string, AvailabilityBarrier>()
  let warmLimit = Number.POSITIVE_INFINITY
  let isOnTrial = false
  for (const model of onDisk.keys()) {
    const availability = upstreams.availabilityOf(name, model)
    if (availability.barrier) barriers.set(model, availability.barrier)
    warmLimit = availability.limit
    isOnTrial ||= availability.isTrial
  }
  return { barriers, warmLimit, isOnTrial, room, hold }
}

function isAlike(a: Passing, b: Passing): boolean {
  if (a.warmLimit !== b.warmLimit || a.isOnTrial !== b.isOnTrial || a.room !== b.room) return false
  if (!isDeepStrictEqual(a.hold, b.hold)) return false
  if (a.barriers.size !== b.barriers.size) return false
  for (const [model, barrier] of a.barriers) if (b.barriers.get(model) !== barrier) return false
  return true
}

function lasting({ name, spec, status, health, weight, resident }: NodeView): NodeFacts {
  return {
    name,
    available: weight > 0,
    ...((health === 'slow' || health === 'down') && { advice: health }),
    weight: weight > 0 ? weight : 1,
    expectedSpeed: weight > 0 ? weight : 1,
    labels: spec.labels,
    slots: spec.slots ?? null,
    memory: spec.memory ?? labelledMemory(spec.labels['vram_mib']),
    maxLoaded: spec.max_loaded ?? null,
    countsEvaluated: countsEvaluated(status?.version ?? ''),
    models: new Map((status?.models ?? []).map((model) => [model.name, model.size])),
    resident: Array.from(resident, ([model, { size, size_vram, context_length }]) => ({
      model,
      // Ollama does not report who loaded it; the core remembers its own loads.
      variant: null,
      size,
      sizeVram: size_vram,
      contextLength: context_length,
    })),
  }
}

/** Since 0.30.1 Ollama counts cached tokens (docs/routing.md#what-ollama-does). An unreadable version counts as newer. */
function countsEvaluated(version: string): boolean {
  const [, major, minor, patch] = /^(\d+)\.(\d+)\.(\d+)/.exec(version)?.map(Number) ?? []
  if (major === undefined || minor === undefined || patch === undefined || major > 0) return false
  return minor < 30 || (minor === 30 && patch === 0)
}

/** Bytes of GPU memory, as an agent reports them in a label. */
function labelledMemory(mib: string | undefined): number | null {
  const bytes = Number(mib) * 2 ** 20
  return bytes > 0 ? bytes : null
}
