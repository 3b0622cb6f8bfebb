import type { Contestant } from '../../lib/rehearsal/comparison.ts'
import type { Decider } from '../../lib/rehearsal/decider.ts'
import type { RehearsedNode } from '../../lib/rehearsal/node.ts'
import { Core } from '../../lib/scheduler/core.ts'
import type { SchedulerEvent } from '../../lib/scheduler/events.ts'
import type { LearnedState } from '../../lib/scheduler/learning.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import type { Dice } from '../../lib/shared/loop.ts'

/** So many samples that no other changes the mean. */
const certain = 1e9
/** Completions after which a speed should be known (sheet routing.md §6, G8). */
const lessons = 10

/** Our policy, told at every moment how fast each node is with each model. */
export const exactKnowledge: Contestant = {
  name: 'exact speeds',
  allResident: false,
  deciderOf(dice, nodes) {
    const core = newCore(dice)
    let knownAt = -1
    return {
      take(event, now) {
        if (now > knownAt) core.restore(truthOf(nodes))
        knownAt = now
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
    const truth = truthOf(this.#nodes).nodes[node]?.runners[key]?.decode.mean ?? 1
    this.#learned.push(believed / truth - 1)
  }
}

function newCore(dice: Dice): Core {
  return new Core({ policy: 'earliest-finish', parameters: defaultParameters, dice })
}

function truthOf(nodes: readonly RehearsedNode[]): LearnedState {
  const unknown = { mean: 0, count: 0 }
  const exactly = (mean: number) => ({ mean, count: certain })
  const known = nodes.map((node) => {
    const runners = node.truth().map(({ model, secondsPerToken, prefillPerS }) => {
      const pace = { decode: exactly(secondsPerToken), prefill: exactly(prefillPerS), slots: null }
      return [`${model}\n`, pace] as const
    })
    return [node.plan.name, { speed: unknown, disk: unknown, runners: Object.fromEntries(runners) }] as const
  })
  return { nodes: Object.fromEntries(known), outputs: {} }
}
