import type { SchedulingRequest } from '../events.ts'
import type { Parameters } from '../parameters.ts'
import { Outputs } from './outputs.ts'
import { NodePace, type PaceRecord, RunnerPace } from './pace.ts'
import { type MeanRecord, RunningMean } from './running-mean.ts'

/** Everything learned, as JSON: the leader publishes it, and an instance starts with it. */
export interface LearnedState {
  readonly nodes: Readonly<Record<string, LearnedNode>>
  /** Output tokens of the last answers, by model. */
  readonly outputs: Readonly<Record<string, readonly number[]>>
}

export interface LearnedNode {
  /** The mean is the logarithm of the speed. */
  readonly speed: MeanRecord
  readonly disk: MeanRecord
  /** By model and variant, a line break between them. */
  readonly runners: Readonly<Record<string, PaceRecord>>
}

/** Requests per second, as of a time. */
interface Arrivals {
  rate: number
  at: number
}

interface KnownNode {
  readonly pace: NodePace
  readonly runners: Map<string, RunnerPace>
}

/** Means over the last requests for a model. */
interface Usual {
  readonly prompts: RunningMean
  readonly decoding: RunningMean
}

/** Requests in the mean of a typical request. */
const usualKept = 40

const noVariants = () => new Map<string, Arrivals>()
const noArrivals = (): Arrivals => ({ rate: 0, at: 0 })
const newUsual = (): Usual => ({ prompts: new RunningMean(usualKept), decoding: new RunningMean(usualKept) })

/** Caps: callers choose variants and tenants. */
const runnersKept = 200
const tenantOutputsKept = 1000
const variantsKept = 100

/** Everything learned from requests. It outlives unloaded runners, and nodes that come and go. */
export class Learning {
  readonly #parameters: Parameters
  readonly #nodes = new Map<string, KnownNode>()
  readonly #outputs = new Map<string, Outputs>()
  readonly #tenantOutputs = new Map<string, Outputs>()
  /** By model. */
  readonly #usual = new Map<string, Usual>()
  /** By model and variant. */
  readonly #arrivals = new Map<string, Map<string, Arrivals>>()

  constructor(parameters: Parameters) {
    this.#parameters = parameters
  }

  node(name: string): NodePace {
    return this.#known(name).pace
  }

  runner(node: string, model: string, variant: string): RunnerPace {
    const { pace, runners } = this.#known(node)
    return obtain(runners, `${model}\n${variant}`, () => new RunnerPace(pace, this.#parameters), runnersKept)
  }

  /** Expected remaining output tokens of a tenant's request that has written so many. */
  rest(tenant: string, model: string, written: number): number {
    const own = this.#tenantOutputs.get(`${tenant}\n${model}`)
    const isEnough = own !== undefined && own.count >= this.#parameters.learning.outputsOfTenant
    return (isEnough ? own : this.#outputsOf(model)).rest(written)
  }

  /** Expected output tokens of any request for the model. */
  output(model: string): number {
    return this.#outputsOf(model).rest(0)
  }

  answered(tenant: string, model: string, tokens: number): void {
    this.#outputsOf(model).add(tokens)
    obtain(this.#tenantOutputs, `${tenant}\n${model}`, this.#newOutputs, tenantOutputsKept).add(tokens)
  }

  arrived({ model, variant, promptTokens, embeds }: SchedulingRequest, now: number): void {
    const ofModel = obtain(this.#arrivals, model, noVariants)
    const arrivals = obtain(ofModel, variant, noArrivals, variantsKept)
    arrivals.rate = this.#rateOf(arrivals, now) + 1 / this.#parameters.learning.arrivalS
    arrivals.at = now
    const { prompts, decoding } = obtain(this.#usual, model, newUsual)
    prompts.add(promptTokens)
    decoding.add(embeds ? 0 : 1)
  }

  /** Prompt tokens of a typical request for a model, and the share of requests that write an answer. */
  usual(model: string): { readonly prompt: number; readonly decoding: number } {
    const known = this.#usual.get(model)
    return { prompt: known?.prompts.or(0) ?? 0, decoding: known?.decoding.or(1) ?? 1 }
  }

  /** Recent requests per second for the variants of a model that one runner `serves`. */
  arrivalRate(model: string, serves: (variant: string) => boolean, now: number): number {
    let rate = 0
    for (const [variant, arrivals] of this.#arrivals.get(model) ?? [])
      if (serves(variant)) rate += this.#rateOf(arrivals, now)
    return rate
  }

  state(): LearnedState {
    const nodes = [...this.#nodes].map(([name, { pace, runners }]) => [
      name,
      {
        ...pace.record(),
        runners: Object.fromEntries([...runners].map(([key, runner]) => [key, runner.record()])),
      },
    ])
    const outputs = [...this.#outputs].map(([model, kept]) => [model, kept.record()])
    return { nodes: Object.fromEntries(nodes), outputs: Object.fromEntries(outputs) }
  }

  /** Continues with the state of another instance. */
  restore({ nodes, outputs }: LearnedState): void {
    for (const [name, { speed, disk, runners }] of Object.entries(nodes)) {
      this.node(name).restore({ speed, disk })
      for (const [key, record] of Object.entries(runners)) {
        const [model = '', variant = ''] = key.split('\n')
        this.runner(name, model, variant).restore(record)
      }
    }
    for (const [model, tokens] of Object.entries(outputs)) this.#outputsOf(model).restore(tokens)
  }

  #rateOf({ rate, at }: Arrivals, now: number): number {
    return rate * Math.exp((at - now) / this.#parameters.learning.arrivalS)
  }

  #known(name: string): KnownNode {
    return obtain(this.#nodes, name, () => ({ pace: new NodePace(this.#parameters), runners: new Map() }))
  }

  #outputsOf(model: string): Outputs {
    return obtain(this.#outputs, model, this.#newOutputs)
  }

  readonly #newOutputs = () =>
    new Outputs(this.#parameters.learning.outputsKept, this.#parameters.learning.outputTokens)
}

/** The value of a key, made when missing; the oldest key makes room. */
function obtain<V>(map: Map<string, V>, key: string, make: () => V, keep = Number.POSITIVE_INFINITY): V {
  const known = map.get(key)
  if (known) return known
  const made = make()
  map.set(key, made)
  if (map.size > keep) map.delete(map.keys().next().value ?? '')
  return made
}
