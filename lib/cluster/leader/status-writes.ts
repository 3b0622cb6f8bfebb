import type { NodeStatus, NodeView } from '../../fleet/node.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Operation } from '../../store/store.ts'
import { type Observation, type StoredStatus, sameStatus } from '../probing/stored-status.ts'
import type { SharedLearning } from './learned-state.ts'

interface StatusFacts {
  readonly keys: KeyLayout
  readonly fence: bigint
  readonly nodes: ReadonlyMap<string, NodeView>
  /** One for each node that is probed; null while nothing is known of it. */
  readonly observations: ReadonlyMap<string, Observation | null>
  /** Nodes that may fail because of this instance: their statuses in the store stay as they are. */
  readonly held: ReadonlySet<string>
  /** The statuses in the store, by node name. */
  readonly storedStatuses: ReadonlyMap<string, StoredStatus>
  readonly learning: Pick<SharedLearning, 'publishedOf'>
}

/**
 * The writes that bring `R/state/nodes/` up to date: statuses that changed are put, those of nodes that are not probed
 * deleted.
 */
export function planStates({
  keys,
  fence,
  nodes,
  observations,
  held,
  storedStatuses,
  learning,
}: StatusFacts): Operation[] {
  const operations: Operation[] = []
  for (const [name, observation] of observations) {
    const spec = nodes.get(name)?.spec
    if (!observation || !spec || held.has(name)) continue
    // The observation may be an earlier leader's status: fence and weight are overwritten.
    const stored = storedStatuses.get(name)?.stored
    const learned = learning.publishedOf(name, stored?.learned)
    const status: NodeStatus = { ...observation, fence: String(fence), weight: spec.weight, learned }
    if (stored && sameStatus(stored, status)) continue
    operations.push({ type: 'put', key: keys.nodeState(name), value: JSON.stringify(status) })
  }
  for (const name of storedStatuses.keys())
    if (!observations.get(name)) operations.push({ type: 'delete', key: keys.nodeState(name) })
  return operations
}
