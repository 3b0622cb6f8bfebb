import type { Ask } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import {
  type Admittance,
  count,
  isForeign,
  isFull,
  isPanic,
  type Pick,
  pick,
  type Unfitness,
  unfitness,
  type World,
} from './pick.ts'
import type { Residence } from './runners.ts'

/** Where a node stands for an ask. */
interface Standing {
  readonly node: NodeView
  /** Why it was passed over; null when it could take the request now. */
  readonly barrier: Unfitness | 'no-model' | 'breaker' | 'busy' | 'full' | 'variant' | null
  /** Requests of this instance running on it, of the model asked for. */
  readonly running: number
  readonly residence: Residence
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
  const { snapshot, slots, gate, runners } = world
  const running = slots.ofModel(ask.model)
  const admittance: Admittance = { fit: 0, admitted: 0, isServed: false }
  for (const node of snapshot.nodes.values()) {
    if (!node.onDisk.has(ask.model) || unfitness(node, ask) !== null) continue
    const runsIt = running.get(node.name)?.variant === ask.variant
    count(gate.passage(node.name, ask.model).barrier, runsIt, admittance)
  }
  const panic = isPanic(admittance)
  const isTaken = (node: NodeView) =>
    isForeign(running.get(node.name), ask) ||
    (admittance.isServed && runners.residence(node, ask) === 'contended')
  const barrier = (node: NodeView): Standing['barrier'] => {
    const unfit = unfitness(node, ask) ?? (node.onDisk.has(ask.model) ? null : 'no-model')
    if (unfit) return unfit
    const passage = gate.passage(node.name, ask.model)
    if (passage.barrier === 'busy') return 'busy'
    if (passage.barrier !== null && !(panic && passage.barrier === 'ejected')) return 'breaker'
    if (isTaken(node)) return 'variant'
    return isFull(node, passage, running.get(node.name)) ? 'full' : null
  }
  const standings = [...snapshot.nodes.values()].map((node) => ({
    node,
    barrier: barrier(node),
    running: running.get(node.name)?.count ?? 0,
    residence: runners.residence(node, ask),
  }))
  return { pick: pick(ask, world), panic, standings }
}
