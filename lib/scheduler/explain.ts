import { matchesLabels } from '../fleet/documents/field-schemas.ts'
import type { NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Core } from './core.ts'
import type { Candidate, Decision, SchedulingRequest } from './events.ts'
import type { FleetAvailability, NodeAvailability } from './fleet/availability.ts'
import type { WaitEstimate } from './queue/wait-estimate.ts'

/** What makes a node unfit for an ask, whatever passes to it and its slots. */
type Unfitness = 'off' | 'cordoned' | 'unknown' | 'down' | 'weight' | 'tried' | 'labels' | 'no-model'

/** Where a node stands for an ask. */
interface NodeExplanation {
  readonly node: NodeView
  /**
   * Why it is passed over now; null when it could take the request, if need be after a load. `variant`: its runner of the model is in
   * use with other options; `swap`: it changes what it has in memory.
   */
  readonly barrier: Unfitness | 'breaker' | 'busy' | 'full' | 'variant' | 'swap' | null
  /** Requests of this instance running on it, of the model asked for. */
  readonly running: number
  /** Whether it has the model in memory; `other`: with other options. */
  readonly residence: ReturnType<Core['residence']>
  /** Its cost in seconds, term by term; null where nobody can tell when it could begin. */
  readonly candidate: Candidate | null
}

export interface Explanation extends WaitEstimate {
  /** The node that would get it at once or after a load; else whether waiting helps (`full`). */
  readonly pick:
    | { readonly node: NodeView; readonly reason: Decision['reason'] }
    | { readonly none: 'down' | 'full' }
  /** Whether nodes with bad answers, or advised down, may be used: breakers and advice keep the ask from more than half of its nodes. */
  readonly panic: boolean
  /** Every node of the fleet. */
  readonly perNode: readonly NodeExplanation[]
}

interface ExplainInputs {
  readonly snapshot: Snapshot
  readonly upstreams: FleetAvailability
  readonly core: Core
  /** By node. */
  readonly running: ReadonlyMap<string, number>
  /** Monotonic seconds. */
  readonly now: number
}

/** What the scheduler would do now, and why: nothing is taken, nothing is sent. */
export function explain(
  request: SchedulingRequest,
  { snapshot, upstreams, core, running, now }: ExplainInputs,
): Explanation {
  const estimate = core.explain(request, now)
  const panic = core.isPanic(request, now)
  const candidates = new Map(estimate.candidates.map((candidate) => [candidate.node, candidate]))
  const barrierOf = (node: NodeView): NodeExplanation['barrier'] => {
    const closed =
      unfitness(node, request) ?? guardOf(node, upstreams.availabilityOf(node.name, request.model), panic)
    if (closed) return closed
    const state = candidates.get(node.name)?.state
    if (state === undefined) return core.residence(node.name, request) === 'other' ? 'variant' : 'swap'
    return state === 'full' ? 'full' : null
  }
  const perNode = [...snapshot.nodes.values()].map((node) => ({
    node,
    barrier: barrierOf(node),
    running: running.get(node.name) ?? 0,
    residence: core.residence(node.name, request),
    candidate: candidates.get(node.name) ?? null,
  }))
  return { ...estimate, pick: pickOf(estimate, snapshot, core.couldServe(request, now)), panic, perNode }
}

function pickOf(
  { candidates, waitsFor }: WaitEstimate,
  { nodes }: Snapshot,
  isPossible: boolean,
): Explanation['pick'] {
  const [best] = candidates
  const node = nodes.get(best?.node ?? '')
  if (!best || !node || best.state === 'full' || waitsFor === 'share')
    return { none: isPossible ? 'full' : 'down' }
  return { node, reason: best.state === 'ready' ? 'warm' : 'cold-load' }
}

function unfitness(node: NodeView, { model, tried, nodes }: SchedulingRequest): Unfitness | null {
  if (!(node.weight > 0)) return unavailability(node)
  if (tried.has(node.name)) return 'tried'
  if (!matchesLabels(nodes, node.spec.labels)) return 'labels'
  return node.onDisk.has(model) ? null : 'no-model'
}

/** What advice or the node's guards hold against it; in panic only what is certain. */
function guardOf(
  { health }: NodeView,
  { barrier }: NodeAvailability,
  panic: boolean,
): NodeExplanation['barrier'] {
  if (health === 'down' && !panic) return 'down'
  if (barrier === null || barrier === 'busy') return barrier
  return panic && barrier === 'ejected' ? null : 'breaker'
}

function unavailability({ spec, available }: NodeView): Unfitness {
  if (available) return 'weight'
  if (spec.state !== 'active') return spec.state
  return 'unknown'
}
