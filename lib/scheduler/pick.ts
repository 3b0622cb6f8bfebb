import type { Ask, Reason } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import { matchesLabels } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Gate, Passage, PassageBarrier } from './gate.ts'
import type { Slots } from './slots.ts'

/**
 * A node for the ask, or why there is none: `down` when no node may serve it now, `full` when one will once
 * a slot is free, a pause ends, or a trial tells.
 */
export type Pick = { readonly node: NodeView; readonly reason: Reason } | { readonly none: 'down' | 'full' }

/** What makes a node unfit for an ask, whatever passes to it and its slots. */
export type Unfitness = 'off' | 'cordoned' | 'unknown' | 'down' | 'weight' | 'tried' | 'labels'

export interface World {
  readonly snapshot: Snapshot
  readonly slots: Slots
  readonly gate: Gate
}

/** A node with a free slot, as it is compared with others. */
interface Candidate {
  readonly node: NodeView
  readonly isEjected: boolean
  readonly isResident: boolean
  /** Requests in flight for its weight. */
  readonly busy: number
}

/** How many nodes are fit for an ask, and how many of them their breakers let it pass to. */
export interface Admittance {
  fit: number
  admitted: number
}

/**
 * Chooses a node with a free slot: where the model is resident first, then where it is on disk; among those the one with
 * the fewest requests in flight for its weight. Pure, one walk over the holders; ties go to the heavier, then the first.
 *
 * In panic nodes with bad answers are used as well, once no slot of another is free: slots guard the others from being
 * flooded, so there is no need to send them a share.
 */
export function pick(ask: Ask, { snapshot, slots, gate }: World): Pick {
  const running = slots.ofModel(ask.model)
  const admittance: Admittance = { fit: 0, admitted: 0 }
  let best: Candidate | undefined
  let none: 'down' | 'full' = 'down'
  for (const name of snapshot.models.get(ask.model)?.holders ?? []) {
    const node = snapshot.nodes.get(name)
    if (!node || unfitness(node, ask)) continue
    const passage = gate.passage(name, ask.model)
    const { barrier } = passage
    count(barrier, admittance)
    if (barrier === 'refused') continue
    // True of an ejected node in panic only; but out of panic there is another of which it is true.
    none = 'full'
    if (waits(barrier) || isFull(node, passage, running)) continue
    best = better(best, {
      node,
      isEjected: barrier === 'ejected',
      isResident: node.resident.has(ask.model),
      busy: slots.running(name) / node.weight,
    })
  }
  if (!best || (best.isEjected && !isPanic(admittance))) return { none }
  return { node: best.node, reason: best.isResident ? 'warm' : 'cold-load' }
}

/** What keeps the ask from the node for good, or null when only breakers, pauses and slots count. */
export function unfitness(node: NodeView, ask: Ask): Unfitness | null {
  if (!(node.weight > 0)) return unavailability(node)
  if (ask.tried.has(node.name)) return 'tried'
  return matchesLabels(ask.nodes, node.spec.labels) ? null : 'labels'
}

/** Whether the node runs as many requests of one model as it may now. */
export function isFull(node: NodeView, { limit }: Passage, running: ReadonlyMap<string, number>): boolean {
  const taken = running.get(node.name) ?? 0
  return taken >= node.slots || taken >= limit
}

/** Notes a fit node. A node that asked for a pause is well. */
export function count(barrier: PassageBarrier | null, admittance: Admittance): void {
  admittance.fit++
  if (barrier === null || barrier === 'busy') admittance.admitted++
}

/**
 * Whether breakers keep an ask from more than half of its nodes: then it may be the requests that are bad, and who
 * believed every breaker would have nobody left (sheet reliability-security.md P7).
 */
export function isPanic({ fit, admitted }: Admittance): boolean {
  return 2 * admitted < fit
}

/** Whether the node will soon tell by itself: a pause ends, and so does a trial. */
function waits(barrier: PassageBarrier | null): boolean {
  return barrier === 'busy' || barrier === 'trial'
}

function unavailability({ spec, status, available }: NodeView): Unfitness {
  if (available) return 'weight'
  if (spec.state !== 'active') return spec.state
  return status === null ? 'unknown' : 'down'
}

function better(a: Candidate | undefined, b: Candidate): Candidate {
  return !a || beats(b, a) ? b : a
}

function beats(a: Candidate, b: Candidate): boolean {
  if (a.isEjected !== b.isEjected) return b.isEjected
  if (a.isResident !== b.isResident) return a.isResident
  if (a.busy !== b.busy) return a.busy < b.busy
  // Idle nodes all score 0: the heavier takes the first request.
  return a.node.weight > b.node.weight
}
