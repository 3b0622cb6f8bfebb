import type { Ask, Reason } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import { matchesLabels } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Gate } from './gate.ts'
import type { Slots } from './slots.ts'

/** A node for the ask, or why there is none: `down` when no node may serve it now, `full` when one will once a slot is free. */
export type Pick = { readonly node: NodeView; readonly reason: Reason } | { readonly none: 'down' | 'full' }

interface World {
  readonly snapshot: Snapshot
  readonly slots: Slots
  readonly gate: Gate
}

/**
 * Chooses a node with a free slot: where the model is resident first, then where it is on disk; among those the one with
 * the fewest requests in flight for its weight. Pure; ties go to the first by name.
 */
export function pick(ask: Ask, world: World): Pick {
  const candidates = eligible(ask, world)
  if (candidates.length === 0) return { none: 'down' }
  const free = candidates.filter((node) => world.slots.runningModel(node.name, ask.model) < node.slots)
  const resident = free.filter((node) => node.resident.has(ask.model))
  const node = leastBusy(resident.length > 0 ? resident : free, world.slots)
  if (!node) return { none: 'full' }
  return { node, reason: resident.length > 0 ? 'warm' : 'cold-load' }
}

function eligible(ask: Ask, { snapshot, gate }: World): NodeView[] {
  const nodes: NodeView[] = []
  for (const name of snapshot.models.get(ask.model)?.holders ?? []) {
    const node = snapshot.nodes.get(name)
    if (!node || node.weight <= 0 || ask.tried.has(name)) continue
    if (matchesLabels(ask.nodes, node.spec.labels) && gate.admits(name)) nodes.push(node)
  }
  return nodes
}

function leastBusy(nodes: readonly NodeView[], slots: Slots): NodeView | undefined {
  let best: NodeView | undefined
  let least = Number.POSITIVE_INFINITY
  for (const node of nodes) {
    const busy = slots.running(node.name) / node.weight
    // Idle nodes would all score 0: the heavier one takes the first request.
    if (busy < least || (busy === least && best && node.weight > best.weight)) {
      least = busy
      best = node
    }
  }
  return best
}
