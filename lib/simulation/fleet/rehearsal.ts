import type { Effect, SchedulerEvent, SchedulingRequest, Timings } from '../../scheduler/events.ts'
import type { NodeAttempt } from './attempt.ts'
import type { Decider } from './decider.ts'
import type { TrafficOutcome } from './tally.ts'
import type { Timeline } from './timeline.ts'
import type { TrafficRequest } from './traffic.ts'
import type { VirtualNode } from './virtual-node.ts'

interface RehearsalOptions {
  readonly timeline: Timeline
  readonly nodes: readonly VirtualNode[]
  readonly requests: readonly TrafficRequest[]
  readonly decider: Decider
  /** Seconds after which callers without a token give up; null: never. */
  readonly patience: number | null
}

/** A request that has not ended. */
interface Open {
  readonly request: TrafficRequest
  readonly tried: Set<string>
  attempts: number
  firstTokenAt: number | null
  /** On a node; null while it waits. */
  attempt: NodeAttempt | null
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
  /** Requests sent to a model that was about to be unloaded. */
  readonly victimStarts: number
}

/** Seconds between two polls of the nodes. */
const pollPeriod = 1
const samplePeriod = 5
/** Attempts of a request before its caller gets an error. */
const mostAttempts = 3
/** Seconds after the last arrival; a request that still waits is lost. */
const longestWait = 6 * 3600

/** Runs requests on nodes as the decider says, on virtual time: the shell of the scheduler's core, without sockets. */
export class Rehearsal {
  readonly #options: RehearsalOptions
  readonly #nodes: ReadonlyMap<string, VirtualNode>
  readonly #open = new Map<string, Open>()
  readonly #outcomes = new Map<string, TrafficOutcome>()
  readonly #samples: Sample[] = []
  /** Models being unloaded, by node. */
  readonly #victims = new Map<string, readonly string[]>()
  #victimStarts = 0
  #isPassPlanned = false
  #cancelTick: () => void = () => {}
  /** The nodes as the decider knows them: it is told only changes. */
  #told = ''

  constructor(options: RehearsalOptions) {
    this.#options = options
    this.#nodes = new Map(options.nodes.map((node) => [node.plan.name, node]))
  }

  /** Lets every request arrive and end. */
  run(): RehearsalCourse {
    const { timeline, requests, nodes } = this.#options
    this.#poll()
    this.#sample()
    for (const request of requests) timeline.at(request.at, () => this.#arrive(request))
    const overAt = (requests.at(-1)?.at ?? 0) + longestWait
    timeline.run(() => this.#outcomes.size < requests.length && timeline.now < overAt)
    for (const open of this.#open.values()) this.#end(open, 'lost')
    return {
      outcomes: requests.flatMap(({ id }) => this.#outcomes.get(id) ?? []),
      samples: this.#samples,
      loads: nodes.reduce((sum, { loads }) => sum + loads.all, 0),
      unorderedLoads: nodes.reduce((sum, { loads }) => sum + loads.unordered, 0),
      victimStarts: this.#victimStarts,
    }
  }

  #arrive(request: TrafficRequest): void {
    const open: Open = { request, tried: new Set(), attempts: 0, firstTokenAt: null, attempt: null }
    this.#open.set(request.id, open)
    this.#take({ type: 'arrived', request: workOf(open) })
    const { timeline, patience } = this.#options
    if (patience !== null) timeline.after(patience, () => this.#leave(open))
  }

  #leave(open: Open): void {
    if (open.firstTokenAt !== null || !this.#open.has(open.request.id)) return
    open.attempt?.hangUp()
    this.#take({ type: 'left', id: open.request.id })
    this.#end(open, 'left')
  }

  /** Polls the nodes: tells the decider what changed, and how many tokens each stream has. */
  #poll(): void {
    const nodes = this.#options.nodes.map((node) => node.facts())
    const facts = JSON.stringify(nodes.map(({ available, resident }) => [available, resident]))
    if (facts !== this.#told) this.#take({ type: 'fleet', nodes })
    this.#told = facts
    for (const { request, attempt, firstTokenAt } of this.#open.values()) {
      if (!attempt || firstTokenAt === null) continue
      this.#take({ type: 'tokens', id: request.id, tokens: attempt.written() })
    }
    this.#options.timeline.after(pollPeriod, () => this.#poll())
  }

  #sample(): void {
    const { timeline } = this.#options
    let waiting = 0
    for (const { firstTokenAt } of this.#open.values()) if (firstTokenAt === null) waiting++
    this.#samples.push({ at: timeline.now, waiting })
    timeline.after(samplePeriod, () => this.#sample())
  }

  #take(event: SchedulerEvent): void {
    const { timeline, decider } = this.#options
    decider.take(event, timeline.now)
    if (this.#isPassPlanned) return
    this.#isPassPlanned = true
    timeline.after(0, () => this.#pass())
  }

  #pass(): void {
    const { timeline, decider } = this.#options
    this.#isPassPlanned = false
    for (const effect of decider.pass(timeline.now)) this.#carryOut(effect)
    this.#cancelTick()
    const tickAt = decider.nextTickAt(timeline.now)
    this.#cancelTick = tickAt === null ? () => {} : timeline.at(tickAt, () => this.#take({ type: 'tick' }))
  }

  #carryOut(effect: Effect): void {
    const open = effect.type === 'swap' ? undefined : this.#open.get(effect.id)
    if (effect.type === 'swap') this.#swap(effect)
    else if (open && effect.type === 'refuse') this.#end(open, 'refused')
    else if (open && effect.type === 'start') this.#start(open, effect.node)
  }

  #start(open: Open, name: string): void {
    const { request } = open
    const { timeline } = this.#options
    open.tried.add(name)
    open.attempts++
    if (this.#victims.get(name)?.includes(request.model)) this.#victimStarts++
    open.attempt = this.#node(name).submit({
      ...request,
      keepAlive: null,
      onFirstToken: () => {
        open.firstTokenAt = timeline.now
        this.#take({ type: 'first-token', id: request.id })
      },
      onEnd: (timings) => this.#ended(open, timings),
      onBusy: () => {
        this.#take({ type: 'busy', id: request.id })
        this.#tryAgain(open)
      },
    })
  }

  #ended(open: Open, timings: Timings | null): void {
    this.#take({ type: 'ended', id: open.request.id, timings })
    if (timings) this.#end(open, 'served')
    // A caller that has seen a token cannot be served again from the start.
    else if (open.firstTokenAt !== null) this.#end(open, 'failed')
    else this.#tryAgain(open)
  }

  #tryAgain(open: Open): void {
    if (open.attempts >= mostAttempts) this.#end(open, 'failed')
    else this.#take({ type: 'arrived', request: workOf(open) })
  }

  #end(open: Open, end: TrafficOutcome['end']): void {
    const { request, firstTokenAt } = open
    const { cachedTokens = 0 } = open.attempt ?? {}
    const endedAt = this.#options.timeline.now
    this.#open.delete(request.id)
    this.#outcomes.set(request.id, { request, end, firstTokenAt, endedAt, cachedTokens })
  }

  #swap({ node, victims, model }: Extract<Effect, { type: 'swap' }>): void {
    this.#victims.set(node, victims)
    this.#node(node).swap({
      victims,
      model,
      onEnd: (loadS) => {
        this.#victims.delete(node)
        this.#take({ type: 'swapped', node, model, ok: loadS !== null, loadS: loadS ?? 0 })
      },
    })
  }

  #node(name: string): VirtualNode {
    const node = this.#nodes.get(name)
    if (!node) throw new Error(`the decider named a node that does not exist: ${name}`)
    return node
  }
}

function workOf({ request, tried }: Open): SchedulingRequest {
  return {
    id: request.id,
    model: request.model,
    variant: '',
    tenant: request.tenant,
    class: 'normal',
    promptTokens: request.promptTokens,
    maxTokens: null,
    streams: true,
    embeds: false,
    prefixes: request.prefixes,
    labels: {},
    tried: new Set(tried),
    arrivedAt: request.at,
  }
}
