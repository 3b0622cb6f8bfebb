import { type LoadSummary, summaryPeriodMs } from '../../fleet/instance.ts'
import type { Decider } from './decider.ts'
import type { TrafficOutcome } from './tally.ts'
import type { Timeline } from './timeline.ts'
import type { TrafficRequest } from './traffic.ts'
import { VirtualInstance } from './virtual-instance.ts'
import type { SentCounts, VirtualNode } from './virtual-node.ts'

/** An instance of a rehearsal. */
export interface PlannedInstance {
  readonly decider: Decider
  /** Seconds until it publishes its first load summary; one follows each second. */
  readonly publishesAt: number
}

interface RehearsalOptions {
  readonly timeline: Timeline
  readonly nodes: readonly VirtualNode[]
  readonly requests: readonly TrafficRequest[]
  /** The first one leads. */
  readonly instances: readonly PlannedInstance[]
  /** Which instance gets a request. */
  readonly instanceOf: (request: TrafficRequest) => number
  /** Seconds after which callers without a token give up; null: never. */
  readonly patience: number | null
}

/** How many requests wait for their first token, at one time. */
export interface Sample {
  readonly at: number
  readonly waiting: number
}

export interface RehearsalCourse {
  /** In the order of arrival, one for each request. */
  readonly outcomes: readonly TrafficOutcome[]
  readonly samples: readonly Sample[]
  readonly loads: number
  /** Loads that no scheduler ordered: Ollama's own, for a request to a node without its model in memory. */
  readonly unorderedLoads: number
  /** Requests sent to nodes. */
  readonly sent: SentCounts
}

/** Seconds between two polls of the nodes. */
const pollPeriod = 1
const samplePeriod = 5
/** Seconds after the last arrival; a request that still waits is lost. */
const longestWait = 6 * 3600

/** Runs requests on nodes as the deciders of the instances say, on virtual time. */
export class Rehearsal {
  readonly #options: RehearsalOptions
  readonly #instances: readonly VirtualInstance[]
  readonly #outcomes = new Map<string, TrafficOutcome>()
  readonly #samples: Sample[] = []
  /** The nodes as the instances know them: they are told only changes. */
  #told = ''

  constructor(options: RehearsalOptions) {
    const { timeline, patience } = options
    this.#options = options
    const nodes = new Map(options.nodes.map((node) => [node.plan.name, node]))
    const summaries = new Map<string, LoadSummary>()
    const ended = (outcome: TrafficOutcome) => void this.#outcomes.set(outcome.request.id, outcome)
    this.#instances = options.instances.map(({ decider }, at) => {
      const own = { id: `instance-${at + 1}`, leads: at === 0, decider }
      return new VirtualInstance({ ...own, timeline, nodes, summaries, patience, ended })
    })
  }

  /** Lets every request arrive and end. */
  run(): RehearsalCourse {
    const { timeline, requests, nodes, instanceOf } = this.#options
    this.#poll()
    this.#sample()
    this.#publishAll()
    for (const request of requests)
      timeline.at(request.at, () => this.#instances[instanceOf(request)]?.arrive(request))
    const overAt = (requests.at(-1)?.at ?? 0) + longestWait
    timeline.run(() => this.#outcomes.size < requests.length && timeline.now < overAt)
    for (const instance of this.#instances) instance.abandon()
    const sum = (count: (node: VirtualNode) => number) => nodes.reduce((all, node) => all + count(node), 0)
    return {
      outcomes: requests.flatMap(({ id }) => this.#outcomes.get(id) ?? []),
      samples: this.#samples,
      loads: sum(({ loads }) => loads.all),
      unorderedLoads: sum(({ loads }) => loads.unordered),
      sent: {
        all: sum(({ sent }) => sent.all),
        toVictims: sum(({ sent }) => sent.toVictims),
        beyondSlots: sum(({ sent }) => sent.beyondSlots),
      },
    }
  }

  /** The leader polls the nodes; every instance sees what changed at once. */
  #poll(): void {
    const { timeline } = this.#options
    const nodes = this.#options.nodes.map((node) => node.facts())
    const facts = JSON.stringify(
      nodes.map(({ available, resident }) => [available, ...resident.map(({ model }) => model)]),
    )
    for (const instance of this.#instances) {
      if (facts !== this.#told) instance.see(nodes)
      instance.reportTokens()
    }
    this.#told = facts
    timeline.after(pollPeriod, () => this.#poll())
  }

  /** A lone instance publishes nothing: in service its own claims hold its own requests, which is not rehearsed. */
  #publishAll(): void {
    const { timeline, instances } = this.#options
    if (instances.length === 1) return
    for (const [at, { publishesAt }] of instances.entries()) timeline.at(publishesAt, () => this.#publish(at))
  }

  #publish(at: number): void {
    this.#instances[at]?.publish()
    this.#options.timeline.after(summaryPeriodMs / 1000, () => this.#publish(at))
  }

  #sample(): void {
    const { timeline } = this.#options
    const waiting = this.#instances.reduce((sum, instance) => sum + instance.waiting, 0)
    this.#samples.push({ at: timeline.now, waiting })
    timeline.after(samplePeriod, () => this.#sample())
  }
}
