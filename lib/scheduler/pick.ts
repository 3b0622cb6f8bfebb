import type { Ask, Reason } from '../fleet/ask.ts'
import type { NodeView } from '../fleet/node.ts'
import { matchesLabels } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Gate, Passage, PassageBarrier } from './gate.ts'
import type { Residence, Runners } from './runners.ts'
import type { Running, Slots } from './slots.ts'

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
  readonly runners: Runners
}

/** A node with a free slot, as it is compared with others. */
interface Candidate {
  readonly node: NodeView
  readonly isEjected: boolean
  readonly residence: Residence
  /** Requests in flight for its weight. */
  readonly busy: number
}

/** How many nodes are fit for an ask, and how many of them their breakers let it pass to. */
export interface Admittance {
  fit: number
  admitted: number
  /** One that is well runs the ask's variant: nobody else need give up a runner that is in use. */
  isServed: boolean
}

/**
 * Chooses a node with a free slot: where the variant is resident first, then where the model is on disk only, then where
 * an idle runner of another variant makes room; among those the one with the fewest requests in flight for its weight.
 * Pure, one walk over the holders; ties go to the heavier, then the first.
 *
 * A runner that is busy with another variant is as good as full: Ollama would load it again, and can hang when it does
 * (sheet routing.md §0). So whoever needs it waits, if need be for `queue.max_wait`.
 *
 * In panic nodes with bad answers are used as well, once no slot of another is free: slots guard the others from being
 * flooded, so there is no need to send them a share.
 */
export function pick(ask: Ask, { snapshot, slots, gate, runners }: World): Pick {
  const running = slots.ofModel(ask.model)
  const admittance: Admittance = { fit: 0, admitted: 0, isServed: false }
  let best: Candidate | undefined
  let none: 'down' | 'full' = 'down'
  for (const name of snapshot.models.get(ask.model)?.holders ?? []) {
    const node = snapshot.nodes.get(name)
    if (!node || unfitness(node, ask)) continue
    const passage = gate.passage(name, ask.model)
    const { barrier } = passage
    const here = running.get(name)
    count(barrier, here?.variant === ask.variant, admittance)
    if (barrier === 'refused') continue
    // True of an ejected node in panic only; but out of panic there is another of which it is true.
    none = 'full'
    if (waits(barrier) || isFull(node, passage, here) || isForeign(here, ask)) continue
    best = better(best, {
      node,
      isEjected: barrier === 'ejected',
      residence: runners.residence(node, ask),
      busy: slots.running(name) / node.weight,
    })
  }
  if (!best || isSpared(best, admittance)) return { none }
  return { node: best.node, reason: best.residence === 'same' ? 'warm' : 'cold-load' }
}

/** What keeps the ask from the node for good, or null when only breakers, pauses and slots count. */
export function unfitness(node: NodeView, ask: Ask): Unfitness | null {
  if (!(node.weight > 0)) return unavailability(node)
  if (ask.tried.has(node.name)) return 'tried'
  return matchesLabels(ask.nodes, node.spec.labels) ? null : 'labels'
}

/** Whether the node runs as many requests of one model as it may now. */
export function isFull(node: NodeView, { limit }: Passage, here: Running | undefined): boolean {
  const taken = here?.count ?? 0
  return taken >= node.slots || taken >= limit
}

/** Whether requests of another variant of the ask's model run there. */
export function isForeign(here: Running | undefined, { variant }: Ask): boolean {
  return here !== undefined && here.variant !== variant
}

/** Notes a fit node. A node that asked for a pause is well. */
export function count(barrier: PassageBarrier | null, runsIt: boolean, admittance: Admittance): void {
  admittance.fit++
  if (runsIt && barrier !== 'refused' && barrier !== 'ejected') admittance.isServed = true
  if (barrier === null || barrier === 'busy') admittance.admitted++
}

/**
 * Whether breakers keep an ask from more than half of its nodes: then it may be the requests that are bad, and who
 * believed every breaker would have nobody left (sheet reliability-security.md P7).
 */
export function isPanic({ fit, admitted }: Admittance): boolean {
  return 2 * admitted < fit
}

/** Whether even the best is to be left alone: its answers were bad, or others use the runner that it would lose. */
function isSpared({ isEjected, residence }: Candidate, admittance: Admittance): boolean {
  return isEjected ? !isPanic(admittance) : residence === 'contended' && admittance.isServed
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

const preference: Readonly<Record<Residence, number>> = { same: 0, none: 1, other: 2, contended: 3 }

function better(a: Candidate | undefined, b: Candidate): Candidate {
  return !a || beats(b, a) ? b : a
}

function beats(a: Candidate, b: Candidate): boolean {
  if (a.isEjected !== b.isEjected) return b.isEjected
  if (a.residence !== b.residence) return preference[a.residence] < preference[b.residence]
  if (a.busy !== b.busy) return a.busy < b.busy
  // Idle nodes all score 0: the heavier takes the first request.
  return a.node.weight > b.node.weight
}
