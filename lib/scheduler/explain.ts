import type { Ask } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import { type Barrier, barrierTo, type Pick, pick, type World } from './pick.ts'

/** Where a node stands for an ask. */
interface Standing {
  readonly node: NodeView
  /** Why it was passed over; null when it could take the request now. */
  readonly barrier: Barrier | 'no-model' | 'full' | null
  /** Requests of this instance running on it, of the model asked for. */
  readonly running: number
  readonly isResident: boolean
}

export interface Explanation {
  readonly pick: Pick
  /** Every node of the fleet. */
  readonly standings: readonly Standing[]
}

/** What `pick` would do now, and why: nothing is taken, nothing is sent. */
export function explain(ask: Ask, world: World): Explanation {
  const { snapshot, slots, gate } = world
  const running = (node: NodeView) => slots.ofModel(ask.model).get(node.name) ?? 0
  const barrier = (node: NodeView): Standing['barrier'] => {
    if (!node.onDisk.has(ask.model)) return barrierTo(node, ask, gate) ?? 'no-model'
    return barrierTo(node, ask, gate) ?? (running(node) >= node.slots ? 'full' : null)
  }
  const standings = [...snapshot.nodes.values()].map((node) => ({
    node,
    barrier: barrier(node),
    running: running(node),
    isResident: node.resident.has(ask.model),
  }))
  return { pick: pick(ask, world), standings }
}
