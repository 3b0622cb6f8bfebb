import type { Work } from './events.ts'
import { Outputs } from './outputs.ts'
import { NodePace, type PaceRecord, RunnerPace } from './pace.ts'
import type { Parameters } from './parameters.ts'
import { type MeanRecord, RunningMean } from './running-mean.ts'

/** All that was learned, as JSON: what the leader publishes, and an instance begins with. */
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

interface KnownNode {
  readonly pace: NodePace
  readonly runners: Map<string, RunnerPace>
}

/** Requests for a model, as they came of late. */
interface Arrivals {
  rate: number
  at: number
  readonly prompts: RunningMean
  readonly decoding: RunningMean
}

/** Requests that are remembered, to know what a usual one is. */
const arrivalsKept = 40

const noArrivals = (): Arrivals => ({
  rate: 0,
  at: 0,
  prompts: new RunningMean(arrivalsKept),
  decoding: new RunningMean(arrivalsKept),
})

/** Variants are the callers' choice: a node remembers the pace of so many. */
const runnersKept = 200
const tenantOutputsKept = 1000

/** What requests taught. It outlives runners that are unloaded, and nodes that come and go. */
export class Learning {
  readonly #rules: Parameters
  readonly #nodes = new Map<string, KnownNode>()
  readonly #outputs = new Map<string, Outputs>()
  readonly #tenantOutputs = new Map<string, Outputs>()
  readonly #arrivals = new Map<string, Arrivals>()

  constructor(rules: Parameters) {
    this.#rules = rules
  }

  node(name: string): NodePace {
    return this.#known(name).pace
  }

  runner(node: string, model: string, variant: string): RunnerPace {
    const { pace, runners } = this.#known(node)
    return obtain(runners, `${model}\n${variant}`, () => new RunnerPace(pace, this.#rules), runnersKept)
  }

  /** Output tokens to expect of a tenant's request that has written so many. */
  rest(tenant: string, model: string, written: number): number {
    const own = this.#tenantOutputs.get(`${tenant}\n${model}`)
    const isEnough = own !== undefined && own.count >= this.#rules.learning.outputsOfTenant
    return (isEnough ? own : this.#outputsOf(model)).rest(written)
  }

  /** Output tokens of any request for the model. */
  output(model: string): number {
    return this.#outputsOf(model).rest(0)
  }

  answered(tenant: string, model: string, tokens: number): void {
    this.#outputsOf(model).add(tokens)
    obtain(this.#tenantOutputs, `${tenant}\n${model}`, this.#newOutputs, tenantOutputsKept).add(tokens)
  }

  arrived({ model, promptTokens, embeds }: Work, now: number): void {
    const rate = this.arrivalRate(model, now) + 1 / this.#rules.learning.arrivalS
    const arrivals = obtain(this.#arrivals, model, noArrivals)
    arrivals.rate = rate
    arrivals.at = now
    arrivals.prompts.add(promptTokens)
    arrivals.decoding.add(embeds ? 0 : 1)
  }

  /** Prompt tokens of a usual request for a model, and the share of those that write an answer. */
  usual(model: string): { readonly prompt: number; readonly decoding: number } {
    const known = this.#arrivals.get(model)
    return { prompt: known?.prompts.or(0) ?? 0, decoding: known?.decoding.or(1) ?? 1 }
  }

  /** Requests per second of late. */
  arrivalRate(model: string, now: number): number {
    const last = this.#arrivals.get(model)
    return last ? last.rate * Math.exp((last.at - now) / this.#rules.learning.arrivalS) : 0
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

  /** Begins where another left off. */
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

  #known(name: string): KnownNode {
    return obtain(this.#nodes, name, () => ({ pace: new NodePace(this.#rules), runners: new Map() }))
  }

  #outputsOf(model: string): Outputs {
    return obtain(this.#outputs, model, this.#newOutputs)
  }

  readonly #newOutputs = () =>
    new Outputs(this.#rules.learning.outputsKept, this.#rules.learning.outputTokens)
}

/** The value of a key, made when there is none; the oldest key makes room. */
function obtain<V>(map: Map<string, V>, key: string, make: () => V, keep = Number.POSITIVE_INFINITY): V {
  const known = map.get(key)
  if (known) return known
  const made = make()
  map.set(key, made)
  if (map.size > keep) map.delete(map.keys().next().value ?? '')
  return made
}
