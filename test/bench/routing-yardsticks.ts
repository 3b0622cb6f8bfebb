import { Core } from '../../lib/scheduler/core.ts'
import type { SchedulerEvent, SchedulingRequest, Timings } from '../../lib/scheduler/events.ts'
import type { LearnedState } from '../../lib/scheduler/learning/learning.ts'
import type { MeanRecord } from '../../lib/scheduler/learning/running-mean.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import type { Random } from '../../lib/shared/random.ts'
import type { Contestant } from '../../lib/simulation/fleet/comparison.ts'
import type { Decider } from '../../lib/simulation/fleet/decider.ts'
import type { VirtualNode } from '../../lib/simulation/fleet/virtual-node.ts'

/** What was predicted, and what it was. */
interface Prediction {
  readonly predicted: number
  readonly actual: number
}

/** What our policy knew of nodes and models that had served ten requests. */
export interface Knowledge {
  /** Seconds per token and prompt tokens per second of a lone request, as learned from those ten. */
  readonly decode: Prediction[]
  readonly prefill: Prediction[]
  /** Of each request that was sent there later: seconds to write its answer, if its length had been known, and to read its prompt. */
  readonly writing: Prediction[]
  readonly reading: Prediction[]
}

/** Completions after which a speed should be known (docs/routing.md#results, G8). */
const lessons = 10

/**
 * Our policy, told at once how many times slower or faster a node has become. What it learned before stays, so much slower.
 */
export const toldOfChanges: Contestant = {
  name: 'told of the change',
  allResident: false,
  instances: 1,
  deciderOf(random, nodes) {
    const core = newCore(random)
    let before = slownessOf(nodes)
    return {
      take(event, now) {
        const slowness = slownessOf(nodes)
        const changes = slowness.map((each, at) => each / (before[at] ?? each))
        if (changes.some((times) => times !== 1)) core.restore(slowed(core.learned(), nodes, changes))
        before = slowness
        core.take(event, now)
      },
      pass: (now) => core.pass(now),
      nextTickAt: (now) => core.nextTickAt(now),
      claims: (now) => core.claims(now),
    }
  },
}

/**
 * Our policy, observed.
 *
 * @param known gets what it knew.
 */
export function observed(known: Knowledge): Contestant {
  return {
    name: 'earliest-finish',
    allResident: false,
    instances: 1,
    deciderOf: (random, nodes) => new ObservedCore(newCore(random), nodes, known),
  }
}

/** A request on a node, as it was predicted. */
interface Sent {
  readonly node: string
  readonly model: string
  readonly prefillS: number
  /** Null where more than one was sent there at once: then nobody asked with the others on their way. */
  readonly secondsPerToken: number | null
  readonly isLearned: boolean
}

class ObservedCore implements Decider {
  readonly #core: Core
  readonly #nodes: readonly VirtualNode[]
  readonly #known: Knowledge
  readonly #waiting = new Map<string, SchedulingRequest>()
  readonly #sent = new Map<string, Sent>()
  readonly #completions = new Map<string, number>()

  constructor(core: Core, nodes: readonly VirtualNode[], known: Knowledge) {
    this.#core = core
    this.#nodes = nodes
    this.#known = known
  }

  take(event: SchedulerEvent, now: number): void {
    this.#core.take(event, now)
    if (event.type === 'arrived') this.#waiting.set(event.request.id, event.request)
    if (event.type === 'left') this.#waiting.delete(event.id)
    if (event.type === 'ended') this.#end(event.id, event.timings)
  }

  pass(now: number) {
    const paces = this.#paces(now)
    const effects = this.#core.pass(now)
    const taken = new Set<string>()
    for (const effect of effects) {
      if (effect.type === 'swap') continue
      const { model = '' } = this.#waiting.get(effect.id) ?? {}
      this.#waiting.delete(effect.id)
      if (effect.type !== 'start') continue
      const { id, node, decision } = effect
      this.#sent.set(id, {
        node,
        model,
        prefillS: decision.candidates[0]?.prefill ?? 0,
        secondsPerToken: taken.has(node) ? null : (paces.get(`${node} ${model}`) ?? null),
        isLearned: this.#completed(`${node} ${model}`) >= lessons,
      })
      taken.add(node)
    }
    return effects
  }

  /** Seconds that a token would take which were written now, by node and model. */
  #paces(now: number): ReadonlyMap<string, number> {
    const paces = new Map<string, number>()
    const requests = new Map(Array.from(this.#waiting.values(), (request) => [request.model, request]))
    for (const request of requests.values()) {
      const { candidates } = this.#core.explain({ ...request, id: 'one token', maxTokens: 1 }, now)
      for (const { node, decode } of candidates) paces.set(`${node} ${request.model}`, decode)
    }
    return paces
  }

  #completed(place: string): number {
    return this.#completions.get(place) ?? 0
  }

  #end(id: string, timings: Timings | null): void {
    const sent = this.#sent.get(id)
    this.#sent.delete(id)
    if (!sent || !timings) return
    this.#check(sent, timings)
    const place = `${sent.node} ${sent.model}`
    const count = this.#completed(place) + 1
    this.#completions.set(place, count)
    if (count === lessons) this.#compare(sent)
  }

  #check({ prefillS, secondsPerToken, isLearned }: Sent, timings: Timings): void {
    if (!isLearned) return
    const { writing, reading } = this.#known
    reading.push({ predicted: prefillS, actual: timings.total - timings.eval })
    if (secondsPerToken === null) return
    writing.push({ predicted: secondsPerToken * timings.outputTokens, actual: timings.eval })
  }

  nextTickAt(now: number): number | null {
    return this.#core.nextTickAt(now)
  }

  claims(now: number) {
    return this.#core.claims(now)
  }

  #compare({ node, model }: Sent): void {
    const believed = this.#core.learned().nodes[node]?.runners[`${model}\n`]
    const there = this.#nodes.find(({ plan }) => plan.name === node)?.truth()
    const truth = there?.find((each) => each.model === model)
    if (!believed || !truth) return
    this.#known.decode.push({ predicted: believed.decode.mean, actual: truth.secondsPerToken })
    this.#known.prefill.push({ predicted: believed.prefill.mean, actual: truth.prefillPerS })
  }
}

function newCore(random: Random): Core {
  return new Core({ policy: 'earliest-finish', parameters: defaultParameters, random })
}

/** Seconds per token of some model, node by node. */
function slownessOf(nodes: readonly VirtualNode[]): number[] {
  return nodes.map((node) => node.truth()[0]?.secondsPerToken ?? 1)
}

/** What was learned, with each node so many times slower. */
function slowed(
  learned: LearnedState,
  nodes: readonly VirtualNode[],
  times: readonly number[],
): LearnedState {
  const scaled = ({ mean, count }: MeanRecord, factor: number) => ({ mean: mean * factor, count })
  const changed = nodes.flatMap(({ plan: { name } }, at) => {
    const node = learned.nodes[name]
    const factor = times[at] ?? 1
    if (!node) return []
    const runners = Object.entries(node.runners).map(([key, pace]) => {
      const { decode, prefill } = pace
      return [key, { ...pace, decode: scaled(decode, factor), prefill: scaled(prefill, 1 / factor) }] as const
    })
    const speed = { ...node.speed, mean: node.speed.mean - Math.log(factor) }
    return [[name, { ...node, speed, runners: Object.fromEntries(runners) }] as const]
  })
  return { nodes: Object.fromEntries(changed), outputs: {} }
}
