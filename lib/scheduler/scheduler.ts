import { placeOf } from '../fleet/classes.ts'
import type { Elsewhere, LoadSummary } from '../fleet/instance.ts'
import type { RequestSpec } from '../fleet/request-spec.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Random } from '../shared/random.ts'
import type { QueuedWork } from './core.ts'
import { CoreLoop } from './core-loop.ts'
import type { LoggedDecision } from './decision-log.ts'
import type { Effect, WithdrawalReason } from './events.ts'
import { type Explanation, explain } from './explain.ts'
import type { FleetAvailability } from './fleet/availability.ts'
import type { Loader, SwapOrder } from './fleet/loader.ts'
import { Loads } from './fleet/loads.ts'
import type { LearnedState } from './learning/learning.ts'
import type { Grant } from './queue/grant.ts'
import { holdersText } from './queue/holders.ts'
import { PendingAcquires } from './queue/pending-acquires.ts'
import { refusalOf } from './queue/refusal.ts'
import { RunningRequests } from './queue/running-requests.ts'
import { workOf } from './queue/work.ts'

interface SchedulerOptions {
  readonly snapshot: CurrentSnapshot
  readonly upstreams: FleetAvailability
  readonly loader: Loader
  readonly clock: Clock
  readonly random: Random
  readonly log: Pick<Log, 'warn'>
  readonly metrics: Pick<Metrics, 'predictionError' | 'later'>
  /** What other instances do with the nodes, as far as is known. */
  readonly usedElsewhere: () => Elsewhere
  /** Whether this instance leads. */
  readonly leads: () => boolean
}

/**
 * The shell around the core: callers ask it for slots, it tells the core, and does what the core says.
 *
 * Invariant: the core knows of exactly those in the waiting room and of what runs.
 */
export class Scheduler {
  readonly #snapshot: CurrentSnapshot
  readonly #upstreams: FleetAvailability
  readonly #clock: Clock
  readonly #loop: CoreLoop
  readonly #loads: Loads
  readonly #waitingRoom: PendingAcquires
  readonly #running = new RunningRequests((event) => this.#loop.tell(event))

  constructor(options: SchedulerOptions) {
    const { snapshot, upstreams, clock } = options
    this.#snapshot = snapshot
    this.#upstreams = upstreams
    this.#clock = clock
    this.#loop = new CoreLoop({
      ...options,
      execute: (effect) => this.#execute(effect),
      looked: () => this.#waitingRoom.limit(),
      ticking: () => this.#running.report(),
    })
    this.#loads = new Loads({
      ...options,
      tell: (event) => this.#loop.tell(event),
      failed: (order, error) => this.#loadFailed(order, error),
    })
    this.#waitingRoom = new PendingAcquires({
      clock,
      limitsOf: (ask) => this.#limitsOf(ask),
      awaitsLoad: (id) => this.#loop.core.plan(id)?.waitsFor === 'load',
      gone: (id, reason) => void this.#remove(id, 'left', reason),
      overdue: (id, model, waitedMs) => this.#expire(id, model, waitedMs),
    })
    snapshot.onSwap(() => {
      this.#loads.keepOnly(snapshot.get().nodes)
      this.refresh()
    })
  }

  /**
   * Waits for a slot on a node that can serve the ask and has not failed it before.
   *
   * @throws ProxyError `all_nodes_down`, `queue_full`, `tenant_queue_full`, `no_capacity` or `queue_timeout`; what the
   *   loader threw when the load it waited for failed, or failed just now and nobody else could serve it; the signal's
   *   reason when it aborts.
   */
  acquire(ask: RequestSpec, signal: AbortSignal): Promise<Grant> {
    if (signal.aborted) return Promise.reject(signal.reason)
    this.#loop.look()
    const id = this.#freeId(ask.id)
    const granted = this.#waitingRoom.enter(id, ask, signal)
    this.#loop.tell({ type: 'arrived', work: workOf(ask, id) })
    return granted
  }

  /** Takes a request out of the queue: its caller is told that an operator did. Whether it was there. */
  cancel(id: string): boolean {
    return this.#remove(id, 'cancelled', new ProxyError('cancelled'))
  }

  /** Something outside (snapshot, upstreams) changed. */
  refresh(): void {
    this.#loop.refresh()
  }

  /** Requests of this instance running on a node. */
  running(node: string): number {
    return this.#running.on(node)
  }

  /** How many requests for a model a node takes at once by now, configured or learned; null: the node is unknown here. */
  slots(node: string, ask: Pick<RequestSpec, 'model' | 'variant'>): number | null {
    this.#loop.look()
    return this.#loop.core.slots(node, ask)
  }

  /** The same of the models that a node has in memory. */
  slotsOf(node: string): ReadonlyMap<string, number> {
    this.#loop.look()
    return this.#loop.core.slotsOf(node)
  }

  summary(): LoadSummary {
    const loading = this.#loads.nodes
    return {
      running: Object.fromEntries(this.#running.counts),
      ...(loading.length > 0 && { loading }),
      queued: this.#waitingRoom.size,
    }
  }

  /** Requests waiting and milliseconds that the first of them has waited, by class; classes nobody waits in are absent. */
  queuedByClass(): ReadonlyMap<string, { readonly count: number; readonly oldestMs: number }> {
    return this.#waitingRoom.byClass()
  }

  /** All that waits, in the order in which it will be served if nothing else happens. Times are monotonic seconds. */
  queued(): readonly QueuedWork[] {
    return this.#loop.core.queued()
  }

  /** The last decisions, the newest first. Times are monotonic seconds. */
  decisions(): readonly LoggedDecision[] {
    return this.#loop.core.decisions()
  }

  learned(): LearnedState {
    return this.#loop.core.learned()
  }

  /** Begins where another instance, or this one before its restart, left off. */
  restore(state: LearnedState): void {
    this.#loop.core.restore(state)
  }

  /** Whether a node that has not failed the ask could serve it, now or after waiting. Nothing is taken. */
  couldServe(ask: RequestSpec): boolean {
    this.#loop.look()
    return this.#loop.core.couldServe(workOf(ask, ''), this.#loop.now)
  }

  /** Seconds until the ask's model is loaded again, where that failed just now and is all that would help; else null. */
  loadRetryS(ask: RequestSpec): number | null {
    return this.#loop.core.loadRetryS(workOf({ ...ask, tried: new Set() }, ''), this.#loop.now)
  }

  /** What would be decided on the ask now, and why, waiting or not. Nothing is taken. */
  explain(ask: RequestSpec): Explanation {
    this.#loop.look()
    return explain(workOf(ask, this.#waitingRoom.has(ask.id) ? ask.id : ''), {
      snapshot: this.#snapshot.get(),
      upstreams: this.#upstreams,
      core: this.#loop.core,
      running: this.#running.countsOf(ask.model),
      now: this.#loop.now,
    })
  }

  /** An id of its own, also for who asks twice under one. */
  #freeId(wanted: string): string {
    let id = wanted
    for (let nth = 2; this.#waitingRoom.has(id) || this.#running.has(id); nth++) id = `${wanted}-${nth}`
    return id
  }

  #limitsOf({ class: name }: RequestSpec) {
    const { classes, queue, timeouts } = this.#snapshot.get().config
    return {
      slotMs: classes[placeOf(name, classes)]?.max_wait ?? queue.max_wait,
      loadMs: timeouts.first_token,
    }
  }

  /** Whether it was still waiting. @param reason that its caller is told. */
  #remove(id: string, why: WithdrawalReason, reason: unknown): boolean {
    const waiter = this.#waitingRoom.take(id)
    if (!waiter) return false
    waiter.refuse(reason)
    this.#loop.tell({ type: 'left', id, why })
    return true
  }

  #expire(id: string, model: string, waitedMs: number): void {
    const retryAfter = this.#loop.core.retryAfterS(id, this.#loop.now)
    const error = new ProxyError('queue_timeout', { model, seconds: waitedMs / 1000, retryAfter })
    this.#remove(id, 'waited-too-long', error)
  }

  #execute(effect: Effect): void {
    switch (effect.type) {
      case 'start':
        this.#start(effect)
        break
      case 'refuse':
        this.#refuse(effect)
        break
      case 'swap':
        this.#swap(effect)
        break
    }
  }

  #start({ id, node: name, decision }: Extract<Effect, { type: 'start' }>): void {
    const node = this.#snapshot.get().nodes.get(name)
    const waiter = node && this.#waitingRoom.take(id)
    if (!waiter) return // cannot be: the core was told of both in this very turn
    const { model } = waiter.ask
    const queuedMs = this.#clock.now() - waiter.since
    const running = this.#running.start({ id, node, model, reason: decision.reason, queuedMs })
    this.#upstreams.availabilityOf(name, model).reserve()
    waiter.grant(running)
  }

  #refuse(refusal: Extract<Effect, { type: 'refuse' }>): void {
    const waiter = this.#waitingRoom.take(refusal.id)
    if (!waiter) return
    const { ask } = waiter
    const failure = refusal.node && this.#loads.failure(refusal.node, ask.model)
    const holders = () => holdersText(ask, this.#snapshot.get(), this.#upstreams)
    waiter.refuse(failure ?? refusalOf(refusal, { ...ask, queued: this.#waitingRoom.size }, holders))
  }

  #swap({ node: name, victims, model, variant, loadS }: Extract<Effect, { type: 'swap' }>): void {
    const node = this.#snapshot.get().nodes.get(name)
    if (!node) return // as in #start
    this.#upstreams.availabilityOf(name, model).reserve()
    const api = this.#waitingRoom.apiFor(model) ?? 'ollama_generate'
    void this.#loads.begin({ node, victims, model, variant, api }, loadS)
  }

  /** Whoever waits for the load is told how it failed, and may try elsewhere. */
  #loadFailed({ node, model, variant }: SwapOrder, error: unknown): void {
    for (const id of this.#waitingRoom.of(model, variant))
      if (this.#loop.core.plan(id)?.node === node.name) this.#remove(id, 'load-failed', error)
  }
}
