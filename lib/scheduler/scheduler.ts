import { rankOf } from '../fleet/classes.ts'
import { type Elsewhere, type LoadSummary, loadSummaryOf } from '../fleet/instance.ts'
import type { NodeView } from '../fleet/node.ts'
import type { RequestSpec } from '../fleet/request-spec.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Random } from '../shared/random.ts'
import type { QueuedRequest } from './core.ts'
import { CoreLoop } from './core-loop.ts'
import type { LoggedDecision } from './decision-log.ts'
import type { Effect, WithdrawalReason } from './events.ts'
import { type Explanation, explain } from './explain.ts'
import type { FleetAvailability } from './fleet/availability.ts'
import type { Loader, SwapOrder } from './fleet/loader.ts'
import { Loads } from './fleet/loads.ts'
import type { LearnedState } from './learning/learning.ts'
import type { Grant } from './queue/grant.ts'
import { NodeClaims } from './queue/node-claims.ts'
import { PendingAcquires } from './queue/pending-acquires.ts'
import { refusalOf } from './queue/refusal-error.ts'
import { RunningRequests } from './queue/running-requests.ts'
import { schedulingRequestOf } from './queue/scheduling-request.ts'
import { unavailableNodesText } from './queue/unavailable-nodes.ts'

interface SchedulerOptions {
  readonly snapshot: CurrentSnapshot
  readonly upstreams: FleetAvailability
  readonly loader: Loader
  readonly clock: Clock
  readonly random: Random
  readonly log: Pick<Log, 'warn'>
  readonly metrics: Pick<Metrics, 'predictionError' | 'later'>
  /** What other instances do with the nodes, as far as this one knows; the same object while nothing changes. */
  readonly usedElsewhere: () => Elsewhere
  /** Whether this instance leads. */
  readonly leads: () => boolean
}

/**
 * The shell around the core: it passes requests for slots to the core, and carries out the effects.
 *
 * Invariant: the core knows exactly the pending and the running requests.
 */
export class Scheduler {
  readonly #snapshot: CurrentSnapshot
  readonly #upstreams: FleetAvailability
  readonly #clock: Clock
  readonly #loop: CoreLoop
  readonly #loads: Loads
  readonly #pending: PendingAcquires
  readonly #claims: NodeClaims<NodeView>
  readonly #running = new RunningRequests((event) => this.#loop.tell(event))

  constructor(options: SchedulerOptions) {
    const { snapshot, upstreams, clock } = options
    this.#snapshot = snapshot
    this.#upstreams = upstreams
    this.#clock = clock
    this.#loop = new CoreLoop({
      ...options,
      execute: (effect) => this.#execute(effect),
      afterPass: () => this.#pending.limit(),
      beforeTick: () => this.#running.report(),
    })
    this.#loads = new Loads({
      ...options,
      tell: (event) => this.#loop.tell(event),
      failed: (order, error) => this.#loadFailed(order, error),
    })
    this.#claims = new NodeClaims({ ...options, node: (name) => snapshot.get().nodes.get(name) })
    this.#pending = new PendingAcquires({
      clock,
      limitsOf: (spec) => this.#limitsOf(spec),
      awaitsLoad: (id) => this.#loop.core.plan(id)?.waitsFor === 'load',
      aborted: (id, reason) => void this.#remove(id, 'left', reason),
      timedOut: (id, model, waitedMs) => this.#expire(id, model, waitedMs),
    })
    snapshot.onSwap(() => {
      this.#loads.keepOnly(snapshot.get().nodes)
      // In the next turn of the event loop: in a large fleet the snapshot took much of this one.
      setImmediate(() => this.refresh())
    })
  }

  /**
   * Waits for a slot on a node that can serve the request and has not failed it.
   *
   * @throws ProxyError `all_nodes_down`, `queue_full`, `tenant_queue_full`, `no_capacity` or `queue_timeout`; the error of
   *   the loader when the load failed that the request needs; the signal's reason when it aborts.
   */
  acquire(spec: RequestSpec, signal: AbortSignal): Promise<Grant> {
    if (signal.aborted) return Promise.reject(signal.reason)
    this.#loop.syncFleet()
    const id = this.#freeId(spec.id)
    const granted = this.#pending.add(id, spec, signal)
    this.#loop.tell({ type: 'arrived', request: schedulingRequestOf(spec, id) })
    return granted
  }

  /** Cancels a queued request on behalf of an operator. Returns whether it was queued. */
  cancel(id: string): boolean {
    return this.#remove(id, 'cancelled', new ProxyError('cancelled'))
  }

  /** Call it when the snapshot or the upstreams have changed. */
  refresh(): void {
    this.#loop.refresh()
  }

  /** Requests of this instance that run on a node. */
  running(node: string): number {
    return this.#running.on(node)
  }

  /** Slots of a model on a node, configured or learned; null: the node is unknown. */
  slots(node: string, spec: Pick<RequestSpec, 'model' | 'variant'>): number | null {
    this.#loop.syncFleet()
    return this.#loop.core.slots(node, spec)
  }

  /** Slots of each model that a node has in memory. */
  slotsOf(node: string): ReadonlyMap<string, number> {
    this.#loop.syncFleet()
    return this.#loop.core.slotsOf(node)
  }

  /** To be called once a second, so that other instances hear of it in time. */
  summary(): LoadSummary {
    const { now, core } = this.#loop
    return loadSummaryOf({
      running: Object.fromEntries(this.#running.counts),
      loading: this.#loads.nodes,
      claims: this.#claims.update(core.claims(now), now),
      queued: this.#pending.size,
    })
  }

  /** By class: pending requests, and the longest wait in milliseconds. Classes without requests are absent. */
  queuedByClass(): ReadonlyMap<string, { readonly count: number; readonly oldestMs: number }> {
    return this.#pending.byClass()
  }

  /** The queue in the order in which it will be served if nothing else happens. Times are monotonic seconds. */
  queued(): readonly QueuedRequest[] {
    return this.#loop.core.queued()
  }

  /** The last decisions, the newest first. Times are monotonic seconds. */
  decisions(): readonly LoggedDecision[] {
    return this.#loop.core.decisions()
  }

  learned(): LearnedState {
    return this.#loop.core.learned()
  }

  /** Continues with what another instance learned, or this one before its restart. */
  restore(state: LearnedState): void {
    this.#loop.core.restore(state)
  }

  /** Whether a node that has not failed the request could serve it, now or later. Takes no slot. */
  couldServe(spec: RequestSpec): boolean {
    this.#loop.syncFleet()
    return this.#loop.core.couldServe(schedulingRequestOf(spec, ''), this.#loop.now)
  }

  /** Seconds until the next attempt to load the model, if a failed load is all that keeps the request waiting; else null. */
  loadRetryS(spec: RequestSpec): number | null {
    return this.#loop.core.loadRetryS(schedulingRequestOf({ ...spec, tried: new Set() }, ''), this.#loop.now)
  }

  /** What the scheduler would decide on the request now, and why. Takes no slot. */
  explain(spec: RequestSpec): Explanation {
    this.#loop.syncFleet()
    return explain(schedulingRequestOf(spec, this.#pending.has(spec.id) ? spec.id : ''), {
      snapshot: this.#snapshot.get(),
      upstreams: this.#upstreams,
      core: this.#loop.core,
      running: this.#running.countsOf(spec.model),
      now: this.#loop.now,
    })
  }

  /** A unique id, also when two requests carry the same one. */
  #freeId(wanted: string): string {
    let id = wanted
    for (let nth = 2; this.#pending.has(id) || this.#running.has(id); nth++) id = `${wanted}-${nth}`
    return id
  }

  #limitsOf({ class: name }: RequestSpec) {
    const { classes, queue, timeouts } = this.#snapshot.get().config
    return {
      slotMs: classes[rankOf(name, classes)]?.max_wait ?? queue.max_wait,
      loadMs: timeouts.first_token,
    }
  }

  /** Returns whether the request was still pending. @param reason the error for its caller. */
  #remove(id: string, why: WithdrawalReason, reason: unknown): boolean {
    const pending = this.#pending.take(id)
    if (!pending) return false
    pending.refuse(reason)
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
    const pending = node && this.#pending.take(id)
    if (!pending) return // impossible: the core learned of the node and of the request in this turn
    const { model } = pending.spec
    const queuedMs = this.#clock.now() - pending.since
    const running = this.#running.start({ id, node, model, reason: decision.reason, queuedMs })
    this.#upstreams.availabilityOf(name, model).reserve()
    pending.grant(running)
  }

  #refuse(refusal: Extract<Effect, { type: 'refuse' }>): void {
    const pending = this.#pending.take(refusal.id)
    if (!pending) return
    const { spec } = pending
    const failure = refusal.node && this.#loads.failure(refusal.node, spec.model)
    const unavailable = () => unavailableNodesText(spec, this.#snapshot.get(), this.#upstreams)
    pending.refuse(failure ?? refusalOf(refusal, { ...spec, queued: this.#pending.size }, unavailable))
  }

  #swap({ node: name, victims, model, variant, loadS }: Extract<Effect, { type: 'swap' }>): void {
    const node = this.#snapshot.get().nodes.get(name)
    if (!node) return // as in #start
    this.#upstreams.availabilityOf(name, model).reserve()
    const api = this.#pending.apiFor(model) ?? 'ollama_generate'
    void this.#loads.begin({ node, victims, model, variant, api }, loadS)
  }

  /** Rejects the requests that wait for the load; they may try another node. */
  #loadFailed({ node, model, variant }: SwapOrder, error: unknown): void {
    for (const id of this.#pending.idsOf(model, variant))
      if (this.#loop.core.plan(id)?.node === node.name) this.#remove(id, 'load-failed', error)
  }
}
