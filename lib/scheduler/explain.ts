import { matchesLabels } from '../fleet/documents/field-schemas.ts'
import type { NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Core } from './core.ts'
import type { Candidate, Decision, SchedulingRequest } from './events.ts'
import type { FleetAvailability, NodeAvailability } from './fleet/availability.ts'
import type { WaitEstimate } from './queue/wait-estimate.ts'

/** Why a node cannot serve a request, apart from its breakers and slots. */
type Unfitness = 'off' | 'cordoned' | 'unknown' | 'down' | 'weight' | 'tried' | 'labels' | 'no-model'

/** What one node means for a request. */
interface NodeExplanation {
  readonly node: NodeView
  /**
   * Why the node is passed over now; null: it could take the request, if need be after a load. `variant`: its runner of
   * the model is in use with other options. `swap`: a model swap is under way there.
   */
  readonly barrier: Unfitness | 'breaker' | 'frozen' | 'refused' | 'busy' | 'full' | 'variant' | 'swap' | null
  /** Requests of this instance for the model that run on it. */
  readonly running: number
  /** Whether the model is in its memory; `other`: with other options. */
  readonly residence: ReturnType<Core['residence']>
  /** Its cost in seconds, term by term; null when its start is unknown. */
  readonly candidate: Candidate | null
}

export interface Explanation extends WaitEstimate {
  /** The node that would get the request, at once or after a load; else `full` if waiting helps, `down` if not. */
  readonly pick:
    | { readonly node: NodeView; readonly reason: Decision['reason'] }
    | { readonly none: 'down' | 'full' }
  /** Breakers and advice exclude more than half of the request's nodes, so ejected and unhealthy nodes may be used. */
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

/** What the scheduler would do now, and why. Takes no slot and sends nothing. */
export function explain(
  request: SchedulingRequest,
  { snapshot, upstreams, core, running, now }: ExplainInputs,
): Explanation {
  const estimate = core.explain(request, now)
  const panic = core.isPanic(request, now)
  const candidates = new Map(estimate.candidates.map((candidate) => [candidate.node, candidate]))
  const barrierOf = (node: NodeView): NodeExplanation['barrier'] => {
    const closed =
      unfitness(node, request) ?? barrierBy(node, upstreams.availabilityOf(node.name, request.model), panic)
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

function unfitness(node: NodeView, { model, tried, labels }: SchedulingRequest): Unfitness | null {
  if (!(node.weight > 0)) return unavailability(node)
  if (tried.has(node.name)) return 'tried'
  if (!matchesLabels(labels, node.spec.labels)) return 'labels'
  return node.onDisk.has(model) ? null : 'no-model'
}

/** The barrier that advice or the breaker sets; in panic only a certain one counts. */
function barrierBy(
  { health }: NodeView,
  { barrier }: NodeAvailability,
  panic: boolean,
): NodeExplanation['barrier'] {
  if (health === 'down' && !panic) return 'down'
  if (barrier === null || barrier === 'busy') return barrier
  if (barrier === 'frozen' || barrier === 'refused') return barrier
  return panic && barrier === 'ejected' ? null : 'breaker'
}

function unavailability({ spec, available }: NodeView): Unfitness {
  if (available) return 'weight'
  if (spec.state !== 'active') return spec.state
  return 'unknown'
}
