import type { Ask, Reason } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import { matchesLabels } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Gate } from './gate.ts'
import type { Slots } from './slots.ts'

/** A node for the ask, or why there is none: `down` when no node may serve it now, `full` when one will once a slot is free. */
export type Pick = { readonly node: NodeView; readonly reason: Reason } | { readonly none: 'down' | 'full' }

/** Why a node may not serve an ask, whatever its slots. */
export type Barrier = 'off' | 'cordoned' | 'unknown' | 'down' | 'weight' | 'tried' | 'labels' | 'breaker'

export interface World {
  readonly snapshot: Snapshot
  readonly slots: Slots
  readonly gate: Gate
}

/** A node with a free slot, as it is compared with others. */
interface Candidate {
  readonly node: NodeView
  readonly isResident: boolean
  /** Requests in flight for its weight. */
  readonly busy: number
}

/**
 * Chooses a node with a free slot: where the model is resident first, then where it is on disk; among those the one with
 * the fewest requests in flight for its weight. Pure, one walk over the holders; ties go to the heavier, then the first.
 */
export function pick(ask: Ask, { snapshot, slots, gate }: World): Pick {
  const running = slots.ofModel(ask.model)
  let best: Candidate | undefined
  let none: 'down' | 'full' = 'down'
  for (const name of snapshot.models.get(ask.model)?.holders ?? []) {
    const node = snapshot.nodes.get(name)
    if (!node || barrierTo(node, ask, gate)) continue
    none = 'full'
    if ((running.get(name) ?? 0) >= node.slots) continue
    const candidate = {
      node,
      isResident: node.resident.has(ask.model),
      busy: slots.running(name) / node.weight,
    }
    if (!best || beats(candidate, best)) best = candidate
  }
  return best ? { node: best.node, reason: best.isResident ? 'warm' : 'cold-load' } : { none }
}

/** What keeps the ask from the node, or null when only its slots count. */
export function barrierTo(node: NodeView, ask: Ask, gate: Gate): Barrier | null {
  if (!(node.weight > 0)) return unavailability(node)
  if (ask.tried.has(node.name)) return 'tried'
  if (!matchesLabels(ask.nodes, node.spec.labels)) return 'labels'
  return gate.admits(node.name) ? null : 'breaker'
}

function unavailability({ spec, status, available }: NodeView): Barrier {
  if (available) return 'weight'
  if (spec.state !== 'active') return spec.state
  return status === null ? 'unknown' : 'down'
}

function beats(a: Candidate, b: Candidate): boolean {
  if (a.isResident !== b.isResident) return a.isResident
  if (a.busy !== b.busy) return a.busy < b.busy
  // Idle nodes all score 0: the heavier takes the first request.
  return a.node.weight > b.node.weight
}
