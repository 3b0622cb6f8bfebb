import { type Random, seededRandom } from '../../shared/random.ts'
import { capacity } from './capacity.ts'
import type { Decider } from './decider.ts'
import type { FleetPlan } from './fleet-plan.ts'
import { Rehearsal, type RehearsalCourse } from './rehearsal.ts'
import { disturb, type Scenario, withNoise } from './scenario.ts'
import { mean } from './tally.ts'
import { Timeline } from './timeline.ts'
import { generateTrace, type TraceRow } from './trace.ts'
import { atRate, requestsOf, type TrafficRequest } from './traffic.ts'
import { VirtualNode } from './virtual-node.ts'

/** One rehearsal, the same for every decider. */
export interface RoundOptions {
  readonly fleet: FleetPlan
  /** Null: rows are generated. */
  readonly trace: readonly TraceRow[] | null
  /** Share of the fleet's capacity. */
  readonly load: number
  readonly requests: number
  readonly scenario: Scenario
  /** Every model is in the memory of every node that could hold it alone, so no model is ever loaded. */
  readonly allResident: boolean
  /** Instances of llamero in front of the fleet. */
  readonly instances: number
  readonly patience: number | null
  readonly seed: number
}

/** Makes the decider of an instance. Only yardsticks use the nodes: these tell what no scheduler can know. */
export type DeciderOf = (random: Random, nodes: readonly VirtualNode[]) => Decider

/** The same seed gives every decider the same nodes and requests. */
export function rehearse(options: RoundOptions, deciderOf: DeciderOf): RehearsalCourse {
  const { allResident, instances, patience, scenario, seed } = options
  const fleet = allResident ? roomy(options.fleet) : options.fleet
  const speeds = speedsOf(fleet, seededRandom(seed))
  const timeline = new Timeline()
  const nodes = fleet.nodes.map(
    (node) => new VirtualNode(timeline, fleet, node, speeds.get(node.name) ?? node.speed),
  )
  if (allResident) for (const node of nodes) node.preload(node.facts().models.keys())
  const requests = requestsFor(options, speeds)
  disturb(scenario, timeline, nodes, requests)
  const random = seededRandom(seed + 3_000_003)
  const planned = Array.from({ length: instances }, (_, at) => ({
    decider: deciderOf(seededRandom(seed + 2_000_003 + 7919 * at), nodes),
    publishesAt: random(),
  }))
  const instanceOf = spread(requests, instances, random)
  return new Rehearsal({ timeline, nodes, requests, instances: planned, instanceOf, patience }).run()
}

/**
 * Which instance gets each request: any, as behind a TCP load balancer with many callers. A session of a trace keeps its
 * connection, and with it its instance.
 */
function spread(requests: readonly TrafficRequest[], instances: number, random: Random) {
  const byConnection = new Map<string, number>()
  const connection = ({ session, id }: TrafficRequest) =>
    session === null ? `request ${id}` : `session ${session}`
  for (const request of requests) {
    const key = connection(request)
    if (!byConnection.has(key)) byConnection.set(key, Math.floor(random() * instances))
  }
  return (request: TrafficRequest) => byConnection.get(connection(request)) ?? 0
}

/** The requests of callers, for nodes of these speeds. */
export function requestsFor(
  { fleet, trace, load, requests, scenario, seed }: RoundOptions,
  speeds: Speeds,
): TrafficRequest[] {
  const random = seededRandom(seed + 1_000_003)
  const rows = trace ? someOf(trace, requests, random) : generateTrace(requests, random)
  const unscaled = requestsOf(rows, fleet.models, random)
  const most = capacity(fleet, speeds, {
    newTokens: mean(unscaled.map(({ promptTokens, reusableTokens }) => promptTokens - reusableTokens)),
    outputTokens: mean(unscaled.map(({ outputTokens }) => outputTokens)),
  })
  const scaled = atRate(unscaled, load * most)
  return scenario === 'noisy-tenant' ? withNoise(scaled, most) : scaled
}

type Speeds = ReadonlyMap<string, number>

/** The true speed of each node, which no scheduler is told. */
export function speedsOf({ nodes, jitter }: FleetPlan, random: Random): Speeds {
  return new Map(nodes.map(({ name, speed }) => [name, speed * (1 + jitter * (2 * random() - 1))]))
}

/** `count` consecutive rows from a random place in the trace. */
function someOf(trace: readonly TraceRow[], count: number, random: Random): readonly TraceRow[] {
  const from = Math.floor(random() * Math.max(0, trace.length - count + 1))
  return trace.slice(from, from + count)
}

/** The same fleet, with room on each node for every model. */
function roomy(fleet: FleetPlan): FleetPlan {
  const models = fleet.models.length
  return { ...fleet, nodes: fleet.nodes.map((node) => ({ ...node, maxLoaded: models })) }
}
