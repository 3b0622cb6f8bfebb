import { UsedElsewhere } from '../../cluster/membership/used-elsewhere.ts'
import { type Elsewhere, type LoadSummary, loadSummaryOf } from '../../fleet/instance.ts'
import type { Effect, NodeFacts, SchedulerEvent, SchedulingRequest, Timings } from '../../scheduler/events.ts'
import { leaveOn } from '../../scheduler/fleet/node-facts.ts'
import { NodeClaims } from '../../scheduler/queue/node-claims.ts'
import type { NodeAttempt } from './attempt.ts'
import type { Decider } from './decider.ts'
import type { TrafficOutcome } from './tally.ts'
import type { Timeline } from './timeline.ts'
import type { TrafficRequest } from './traffic.ts'
import type { VirtualNode } from './virtual-node.ts'

interface VirtualInstanceOptions {
  readonly id: string
  readonly timeline: Timeline
  readonly nodes: ReadonlyMap<string, VirtualNode>
  readonly decider: Decider
  /** Whether it leads: only then it may evict any model. */
  readonly leads: boolean
  /** The load summary of each instance, as published last, by id. */
  readonly summaries: Map<string, LoadSummary>
  /** Seconds after which callers without a token give up; null: never. */
  readonly patience: number | null
  /** A request has ended. */
  readonly ended: (outcome: TrafficOutcome) => void
}

/** A request that has not ended. */
interface Open {
  readonly request: TrafficRequest
  readonly tried: Set<string>
  attempts: number
  firstTokenAt: number | null
  /** Its last; null before the first. */
  attempt: NodeAttempt | null
  /** Where it runs; null while it waits. */
  node: string | null
}

/** Attempts of a request before its caller gets an error. */
const mostAttempts = 3

/**
 * One instance: the shell of the scheduler's core on virtual time, without sockets. It knows of the others what their load
 * summaries say, read and judged by the code that does so in service.
 */
export class VirtualInstance {
  readonly #options: VirtualInstanceOptions
  readonly #open = new Map<string, Open>()
  /** Nodes on which it swaps models. */
  readonly #loading = new Set<string>()
  readonly #claims: NodeClaims<VirtualNode>
  readonly #elsewhere: UsedElsewhere
  #isPassPlanned = false
  #cancelTick: () => void = () => {}
  /** The nodes as polled last, and what the decider knows besides. */
  #polled: readonly NodeFacts[] = []
  #told: Elsewhere | null = null

  constructor(options: VirtualInstanceOptions) {
    const { id, timeline, nodes, summaries } = options
    this.#options = options
    const clock = { now: () => 1000 * timeline.now, date: () => new Date(1000 * timeline.now) }
    const loader = { unload: async (node: VirtualNode, models: readonly string[]) => node.unload(models) }
    this.#claims = new NodeClaims({ loader, node: (name) => nodes.get(name), clock })
    this.#elsewhere = new UsedElsewhere({ loads: () => summaries, own: id, clock })
  }

  /** Requests without a first token. */
  get waiting(): number {
    let waiting = 0
    for (const { firstTokenAt } of this.#open.values()) if (firstTokenAt === null) waiting++
    return waiting
  }

  arrive(request: TrafficRequest): void {
    const open = {
      request,
      tried: new Set<string>(),
      attempts: 0,
      firstTokenAt: null,
      attempt: null,
      node: null,
    }
    this.#open.set(request.id, open)
    this.#syncFleet()
    this.#take({ type: 'arrived', request: workOf(open) })
    const { timeline, patience } = this.#options
    if (patience !== null) timeline.after(patience, () => this.#leave(open))
  }

  /** Tells the decider what the nodes have become. */
  see(nodes: readonly NodeFacts[]): void {
    this.#polled = nodes
    this.#take(this.#fleet())
  }

  /** Tells the decider how many tokens each stream has. */
  reportTokens(): void {
    for (const { request, attempt, firstTokenAt } of this.#open.values()) {
      if (!attempt || firstTokenAt === null) continue
      this.#take({ type: 'tokens', id: request.id, tokens: attempt.written() })
    }
  }

  /** Tells the other instances what it does. To be called once a second. */
  publish(): void {
    const { id, timeline, decider, summaries } = this.#options
    const running: Record<string, number> = {}
    let queued = 0
    for (const { node } of this.#open.values())
      if (node === null) queued++
      else running[node] = (running[node] ?? 0) + 1
    const claims = this.#claims.update(decider.claims(timeline.now), timeline.now)
    summaries.set(id, loadSummaryOf({ running, loading: [...this.#loading], claims, queued }))
  }

  /** The rehearsal is over: what still waits or runs is lost. */
  abandon(): void {
    for (const open of this.#open.values()) this.#end(open, 'lost')
  }

  #leave(open: Open): void {
    if (open.firstTokenAt !== null || !this.#open.has(open.request.id)) return
    open.attempt?.hangUp()
    this.#take({ type: 'left', id: open.request.id })
    this.#end(open, 'left')
  }

  /** Tells the decider what other instances do, if that has changed. */
  #syncFleet(): void {
    if (this.#elsewhere.nodes() !== this.#told)
      this.#options.decider.take(this.#fleet(), this.#options.timeline.now)
  }

  /** The nodes as polled last, and what other instances leave of them. */
  #fleet(): Extract<SchedulerEvent, { type: 'fleet' }> {
    const elsewhere = this.#elsewhere.nodes()
    this.#told = elsewhere
    const nodes = this.#polled.map((facts) => ({
      ...facts,
      ...leaveOn(facts.name, elsewhere, this.#options.leads),
    }))
    return { type: 'fleet', nodes }
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
    this.#syncFleet()
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
    open.node = name
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
    open.node = null
    if (open.attempts >= mostAttempts) this.#end(open, 'failed')
    else this.#take({ type: 'arrived', request: workOf(open) })
  }

  #end(open: Open, end: TrafficOutcome['end']): void {
    const { request, firstTokenAt } = open
    const { cachedTokens = 0 } = open.attempt ?? {}
    const endedAt = this.#options.timeline.now
    this.#open.delete(request.id)
    this.#options.ended({ request, end, firstTokenAt, endedAt, cachedTokens })
  }

  #swap({ node, victims, model }: Extract<Effect, { type: 'swap' }>): void {
    this.#loading.add(node)
    this.#node(node).swap({
      victims,
      model,
      onEnd: ({ loadS, kept }) => {
        this.#loading.delete(node)
        this.#take({ type: 'swapped', node, model, ok: loadS !== null, loadS: loadS ?? 0, kept })
      },
    })
  }

  #node(name: string): VirtualNode {
    const node = this.#options.nodes.get(name)
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
