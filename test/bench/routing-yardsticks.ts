import type { Contestant } from '../../lib/rehearsal/comparison.ts'
import type { Decider } from '../../lib/rehearsal/decider.ts'
import type { RehearsedNode } from '../../lib/rehearsal/node.ts'
import { Core } from '../../lib/scheduler/core.ts'
import type { SchedulerEvent } from '../../lib/scheduler/events.ts'
import type { LearnedState } from '../../lib/scheduler/learning.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import type { MeanRecord } from '../../lib/scheduler/running-mean.ts'
import type { Dice } from '../../lib/shared/loop.ts'

/** Completions after which a speed should be known (sheet routing.md §6, G8). */
const lessons = 10

/**
 * Our policy, told at once how many times slower or faster a node has become. What it learned before stays: true speeds of a
 * lone stream would do worse, as they leave out how prompts that are read hold up the others.
 */
export const toldOfChanges: Contestant = {
  name: 'told of the change',
  allResident: false,
  deciderOf(dice, nodes) {
    const core = newCore(dice)
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
    }
  },
}

/**
 * Our policy, observed.
 *
 * @param learned gets, for each node and model that served ten requests, by which share its learned speed was then wrong.
 */
export function observed(learned: number[]): Contestant {
  return {
    name: 'earliest-finish',
    allResident: false,
    deciderOf: (dice, nodes) => new ObservedCore(newCore(dice), nodes, learned),
  }
}

class ObservedCore implements Decider {
  readonly #core: Core
  readonly #nodes: readonly RehearsedNode[]
  readonly #learned: number[]
  readonly #models = new Map<string, string>()
  readonly #places = new Map<string, string>()
  readonly #completions = new Map<string, number>()

  constructor(core: Core, nodes: readonly RehearsedNode[], learned: number[]) {
    this.#core = core
    this.#nodes = nodes
    this.#learned = learned
  }

  take(event: SchedulerEvent, now: number): void {
    this.#core.take(event, now)
    if (event.type === 'arrived') this.#models.set(event.work.id, event.work.model)
    if (event.type !== 'ended' || !event.timings) return
    const node = this.#places.get(event.id) ?? ''
    const model = this.#models.get(event.id) ?? ''
    const count = (this.#completions.get(`${node} ${model}`) ?? 0) + 1
    this.#completions.set(`${node} ${model}`, count)
    if (count === lessons) this.#compare(node, model)
  }

  pass(now: number) {
    const effects = this.#core.pass(now)
    for (const effect of effects) if (effect.type === 'start') this.#places.set(effect.id, effect.node)
    return effects
  }

  nextTickAt(now: number): number | null {
    return this.#core.nextTickAt(now)
  }

  #compare(node: string, model: string): void {
    const key = `${model}\n`
    const believed = this.#core.learned().nodes[node]?.runners[key]?.decode.mean ?? 0
    const there = this.#nodes.find(({ plan }) => plan.name === node)?.truth()
    const truth = there?.find((each) => each.model === model)?.secondsPerToken ?? 1
    this.#learned.push(believed / truth - 1)
  }
}

function newCore(dice: Dice): Core {
  return new Core({ policy: 'earliest-finish', parameters: defaultParameters, dice })
}

/** Seconds per token of some model, node by node. */
function slownessOf(nodes: readonly RehearsedNode[]): number[] {
  return nodes.map((node) => node.truth()[0]?.secondsPerToken ?? 1)
}

/** What was learned, with each node so many times slower. */
function slowed(
  learned: LearnedState,
  nodes: readonly RehearsedNode[],
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
