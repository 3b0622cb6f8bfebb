import type {
  Effect,
  NodeFacts,
  SchedulerEvent,
  SchedulingRequest,
  Timings,
} from '../../lib/scheduler/events.ts'
import type { AttemptOptions } from '../../lib/simulation/fleet/attempt.ts'
import type { Decider } from '../../lib/simulation/fleet/decider.ts'
import { type FleetPlan, readFleetPlan } from '../../lib/simulation/fleet/fleet-plan.ts'
import { Timeline } from '../../lib/simulation/fleet/timeline.ts'
import { VirtualNode } from '../../lib/simulation/fleet/virtual-node.ts'

/** A load balancer: each request goes at once to the node with the fewest requests. It keeps all events except `tokens`. */
export class LeastConnections implements Decider {
  readonly events: SchedulerEvent[] = []
  #nodes: readonly NodeFacts[] = []
  #arrived: SchedulingRequest[] = []
  readonly #at = new Map<string, string>()
  #turn = 0

  take(event: SchedulerEvent): void {
    if (event.type !== 'tokens') this.events.push(event)
    if (event.type === 'fleet') this.#nodes = event.nodes
    if (event.type === 'arrived') this.#arrived.push(event.request)
    if (event.type === 'ended' || event.type === 'left' || event.type === 'busy') this.#at.delete(event.id)
  }

  pass(): Effect[] {
    const effects = this.#arrived.map((request): Effect => {
      const node = this.#choose(request)
      this.#at.set(request.id, node)
      const decision = { at: 0, reason: 'warm', candidates: [], ttft: 0 } as const
      return { type: 'start', id: request.id, node, decision }
    })
    this.#arrived = []
    return effects
  }

  nextTickAt(): null {
    return null
  }

  claims() {
    return new Map()
  }

  #choose({ model, tried }: SchedulingRequest): string {
    const counts = Map.groupBy(this.#at.values(), (node) => node)
    const from = this.#turn++ % this.#nodes.length
    const inTurn = [...this.#nodes.slice(from), ...this.#nodes.slice(0, from)]
    const holders = inTurn.filter(
      ({ name, available, models }) => available && models.has(model) && !tried.has(name),
    )
    const busy = (name: string) => counts.get(name)?.length ?? 0
    return holders.reduce((least, node) => (busy(node.name) < busy(least.name) ? node : least)).name
  }
}

/** Model a: reads 100 and writes 10 tokens a second, loads in 11 s; b and c: 200, 20, 6 s. */
export const smallFleet = (node = '', memory = 64): FleetPlan =>
  readFleetPlan(`
decode: 100
prefill: 1000
jitter: 0
nodes: [{ name: n, memory: ${memory}, disk: 1, slots: 2 ${node && `, ${node}`} }]
models: [{ name: a, size: 10 }, { name: b, size: 5 }, { name: c, size: 5 }]
`)

/** Events of one request, and their times. */
export interface Heard {
  firstTokenAt?: number
  endedAt?: number
  timings?: Timings | null
  busy?: true
}

/** One node with models in memory, and short ways to use it. */
export function aNode({ loaded = '', node: more = '', memory = 64 } = {}) {
  const timeline = new Timeline()
  const fleet = smallFleet(more, memory)
  const node = new VirtualNode(timeline, fleet, fleet.nodes[0]!, 1)
  node.preload(loaded)
  const ask = (model: string, options: Partial<AttemptOptions> = {}) => {
    const heard: Heard = {}
    const attempt = node.submit({
      model,
      promptTokens: 200,
      outputTokens: 50,
      conversation: Math.random(),
      reusableTokens: 0,
      keepAlive: null,
      onFirstToken: () => {
        heard.firstTokenAt = timeline.now
      },
      onEnd: (timings) => {
        heard.endedAt = timeline.now
        heard.timings = timings
      },
      onBusy: () => {
        heard.busy = true
      },
      ...options,
    })
    return { heard, hangUp: () => attempt.hangUp() }
  }
  const until = (time: number) => {
    let isOver = false
    timeline.at(time, () => {
      isOver = true
    })
    timeline.run(() => !isOver)
  }
  return { node, timeline, ask, until, resident: () => node.facts().resident.map(({ model }) => model) }
}
