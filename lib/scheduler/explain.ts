import type { Ask } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import {
  type Admittance,
  count,
  isFull,
  isPanic,
  type Pick,
  pick,
  type Unfitness,
  unfitness,
  type World,
} from './pick.ts'

/** Where a node stands for an ask. */
interface Standing {
  readonly node: NodeView
  /** Why it was passed over; null when it could take the request now. */
  readonly barrier: Unfitness | 'no-model' | 'breaker' | 'busy' | 'full' | null
  /** Requests of this instance running on it, of the model asked for. */
  readonly running: number
  readonly isResident: boolean
}

export interface Explanation {
  readonly pick: Pick
  /** Whether nodes with bad answers may be used, since breakers keep the ask from more than half of its nodes. */
  readonly panic: boolean
  /** Every node of the fleet. */
  readonly standings: readonly Standing[]
}

/** What `pick` would do now, and why: nothing is taken, nothing is sent. */
export function explain(ask: Ask, world: World): Explanation {
  const { snapshot, slots, gate } = world
  const running = slots.ofModel(ask.model)
  const admittance: Admittance = { fit: 0, admitted: 0 }
  for (const node of snapshot.nodes.values()) {
    const isFit = node.onDisk.has(ask.model) && unfitness(node, ask) === null
    if (isFit) count(gate.passage(node.name, ask.model).barrier, admittance)
  }
  const panic = isPanic(admittance)
  const barrier = (node: NodeView): Standing['barrier'] => {
    const unfit = unfitness(node, ask) ?? (node.onDisk.has(ask.model) ? null : 'no-model')
    if (unfit) return unfit
    const passage = gate.passage(node.name, ask.model)
    if (passage.barrier === 'busy') return 'busy'
    if (passage.barrier !== null && !(panic && passage.barrier === 'ejected')) return 'breaker'
    return isFull(node, passage, running) ? 'full' : null
  }
  const standings = [...snapshot.nodes.values()].map((node) => ({
    node,
    barrier: barrier(node),
    running: running.get(node.name) ?? 0,
    isResident: node.resident.has(ask.model),
  }))
  return { pick: pick(ask, world), panic, standings }
}
