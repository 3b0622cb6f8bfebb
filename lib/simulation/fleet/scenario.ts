import type { TrafficOutcome } from './tally.ts'
import type { Timeline } from './timeline.ts'
import type { TrafficRequest } from './traffic.ts'
import type { VirtualNode } from './virtual-node.ts'

/** What goes wrong at half time. */
export const scenarios = ['steady', 'noisy-tenant', 'slow-node', 'dead-node'] as const
export type Scenario = (typeof scenarios)[number]

/** The tenant that asks for too much. */
export const noisyTenant = 'noisy'
const noise = { capacities: 3, seconds: 60 }
const slowDown = 8
/** Seconds after half time that count as the aftermath: twice the noise; for a node, as G8 says (docs/routing.md#results). */
const aftermath = { 'noisy-tenant': 2 * noise.seconds, other: 600 }

/** Adds the requests of the noisy tenant: for 60 s three times what the fleet can serve, each like one of the others. */
export function withNoise(requests: readonly TrafficRequest[], capacity: number): TrafficRequest[] {
  const from = halfTime(requests)
  const added = Array.from({ length: Math.round(noise.capacities * capacity * noise.seconds) }, (_, at) => {
    const model = requests[at % requests.length]
    return model ? [noisy(model, at, from + at / (noise.capacities * capacity), requests.length)] : []
  })
  return [...requests, ...added.flat()].sort((a, b) => a.at - b.at)
}

/** Plans the fault of a node: the fastest node becomes eight times slower, or dies. */
export function disturb(
  scenario: Scenario,
  timeline: Timeline,
  nodes: readonly VirtualNode[],
  requests: readonly TrafficRequest[],
): void {
  const node = nodes.toSorted((a, b) => b.plan.speed - a.plan.speed)[0]
  if (scenario === 'slow-node') timeline.at(halfTime(requests), () => node?.slowDown(slowDown))
  if (scenario === 'dead-node') timeline.at(halfTime(requests), () => node?.kill())
}

/** Whether a request arrived soon after half time. */
export function isAftermath(scenario: Scenario, outcomes: readonly TrafficOutcome[]) {
  const from = halfTime(outcomes.map(({ request }) => request))
  const to = from + (scenario === 'noisy-tenant' ? aftermath[scenario] : aftermath.other)
  return ({ request }: TrafficOutcome): boolean => request.at >= from && request.at < to
}

function noisy(like: TrafficRequest, index: number, at: number, others: number): TrafficRequest {
  return {
    ...like,
    id: `n${index + 1}`,
    at,
    tenant: noisyTenant,
    conversation: others + index,
    session: null,
    reusableTokens: 0,
    prefixes: [],
  }
}

function halfTime(requests: readonly TrafficRequest[]): number {
  return (requests.at(-1)?.at ?? 0) / 2
}
