import type { Policy } from '../fleet/policies.ts'
import type { Random } from '../shared/random.ts'
import { CandidateLists } from './cost/candidate-lists.ts'
import type { Candidates } from './cost/candidates.ts'
import { restOf } from './cost/completion.ts'
import type { CostContext } from './cost/cost-context.ts'
import { PrefixIndex } from './cost/prefix-index.ts'
import { failedLoadOf } from './cost/selection.ts'
import { DecisionLog, type LoggedDecision } from './decision-log.ts'
import type { Effect, SchedulerEvent, SchedulingRequest, WithdrawalReason } from './events.ts'
import { FleetState } from './fleet/fleet-state.ts'
import { Swaps } from './fleet/swaps.ts'
import { type LearnedState, Learning } from './learning/learning.ts'
import type { ClassParameters, Parameters } from './parameters.ts'
import { type Claim, claimsOf } from './queue/claims.ts'
import { FairQueue } from './queue/fair-queue.ts'
import { InFlight } from './queue/in-flight.ts'
import { QueueLimits } from './queue/queue-limits.ts'
import { charge } from './queue/queue-order.ts'
import { SchedulingPass } from './queue/scheduling-pass.ts'
import { TenantReservation } from './queue/tenant-reservation.ts'
import { Tenants } from './queue/tenants.ts'
import { estimateWait, type WaitEstimate } from './queue/wait-estimate.ts'
import type { EntryPlan, QueueEntry } from './queue-entry.ts'

/** Decisions that the admin API can show. */
const decisionsKept = 1000

interface CoreOptions {
  readonly policy: Policy
  readonly parameters: Parameters
  readonly random: Random
  /** Called at the first token of each request. */
  readonly begun?: (entry: LoggedDecision) => void
}

/** A request in the queue, as the admin API shows it. */
export interface QueuedRequest {
  readonly request: SchedulingRequest
  /** Null until a pass has placed it. */
  readonly plan: EntryPlan | null
}

/**
 * The scheduler: earliest finish, late binding, one queue (docs/routing.md). It owns all state of slots, requests, memory,
 * speeds, prefixes and tenants. Events go in and effects come out: no sockets, no timers.
 */
export class Core {
  readonly #parameters: Parameters
  readonly #learning: Learning
  readonly #fleet: FleetState
  readonly #lists: CandidateLists
  readonly #tenants: Tenants
  readonly #queue: FairQueue
  readonly #prefixIndex: PrefixIndex
  readonly #log: DecisionLog
  readonly #inFlight: InFlight
  readonly #swaps: Swaps
  readonly #queueLimits: QueueLimits
  readonly #reservation: TenantReservation
  readonly #pass: SchedulingPass

  constructor({ policy, parameters, random, begun = () => {} }: CoreOptions) {
    this.#parameters = parameters
    this.#learning = new Learning(parameters)
    this.#fleet = new FleetState(this.#learning, parameters.swaps)
    const context: CostContext = {
      fleet: this.#fleet,
      learning: this.#learning,
      parameters,
      victims: new WeakMap(),
    }
    this.#lists = new CandidateLists(context)
    this.#log = new DecisionLog(decisionsKept, begun)
    this.#tenants = new Tenants(parameters)
    this.#queue = new FairQueue(parameters, this.#tenants)
    this.#prefixIndex = new PrefixIndex(parameters.prefixes)
    this.#inFlight = new InFlight(context, this.#queue, this.#tenants, this.#prefixIndex, this.#log)
    this.#swaps = new Swaps(this.#fleet, parameters.swaps)
    this.#queueLimits = new QueueLimits(parameters, random)
    this.#reservation = new TenantReservation(parameters, this.#tenants)
    this.#pass = new SchedulingPass(
      {
        parameters,
        lists: this.#lists,
        queue: this.#queue,
        inFlight: this.#inFlight,
        swaps: this.#swaps,
        queueLimits: this.#queueLimits,
        reservation: this.#reservation,
        log: this.#log,
        random,
      },
      policy,
    )
  }

  /** Takes in one event. The caller must run `pass` before the turn of the event loop ends. */
  take(event: SchedulerEvent, now: number): void {
    this.#inFlight.settle(now)
    switch (event.type) {
      case 'arrived':
        this.#arrive(event.request, now)
        break
      case 'left':
        this.#leave(event.id, event.why ?? 'left', now)
        break
      case 'first-token':
        this.#inFlight.firstToken(event.id, now)
        break
      case 'tokens':
        this.#inFlight.tokens(event.id, event.tokens, now)
        break
      case 'ended':
        this.#inFlight.end(event.id, event, now)
        break
      case 'busy':
        this.#inFlight.refused(event.id, now)
        break
      case 'fleet':
        this.#fleet.update(event.nodes, now)
        break
      case 'swapped':
        this.#swaps.swapped(event, now)
        break
      case 'tick':
        break
    }
  }

  /** Decides on every request that waits. */
  pass(now: number): Effect[] {
    this.#inFlight.settle(now)
    return this.hasWork ? this.#pass.run(now) : []
  }

  /** When time alone may change a decision, in monotonic seconds; null while nothing waits. */
  nextTickAt(now: number): number | null {
    if (!this.hasWork) return null
    const { oldest, changesAt } = this.#queue
    const expiresAt = oldest ? oldest.since + this.#parameters.admission.maxWaitS : Number.POSITIVE_INFINITY
    return Math.min(now + this.#parameters.queue.tickS, changesAt, expiresAt, this.#inFlight.settlesAt)
  }

  /** What a pass would decide on a request now, queued or not. Changes nothing. */
  explain(request: SchedulingRequest, now: number): WaitEstimate {
    const list = this.#listFor(request, now)
    const entry = this.#queue.get(request.id) ?? this.#entryOf(request, list, now)
    const limits = this.#reservation.limits(request.tenant, this.#queue.rankOf(entry), now)
    return estimateWait(entry, { list, queue: this.#queue, queueLimits: this.#queueLimits, limits }, now)
  }

  /** Another policy chooses the nodes from the next pass on. */
  usePolicy(policy: Policy): void {
    this.#pass.usePolicy(policy)
  }

  /** Sorts the queue again: the parameters of the classes have changed. */
  reclassify(now: number): void {
    for (const { request, since, plan, dueAt } of [...this.#queue.all()]) {
      this.#queue.remove(request.id, now)
      this.#queue.add(
        { ...this.#entryOf(request, this.#listFor(request, now), now), since, plan, dueAt },
        false,
        now,
      )
    }
  }

  /** Whether a request has a place now, or will have one after a slot frees up, a pause ends or a trial succeeds. */
  couldServe(request: SchedulingRequest, now: number): boolean {
    const list = this.#listFor(request, now)
    return list.admitsAnywhere(this.#queue.get(request.id) ?? this.#entryOf(request, list, now))
  }

  /** Whether breakers exclude so many nodes of a request that the scheduler ignores them. */
  isPanic(request: SchedulingRequest, now: number): boolean {
    const list = this.#listFor(request, now)
    return list.isPanic(this.#entryOf(request, list, now))
  }

  /** Whether a node has the model of a request in memory, with the same or with other options. */
  residence(node: string, { model, variant }: SchedulingRequest): 'same' | 'other' | 'none' {
    const runner = this.#fleet.node(node)?.loaded.get(model)
    if (!runner) return 'none'
    return runner.serves(variant) ? 'same' : 'other'
  }

  /** Slots of a model on a node, configured or learned; null: the node is unknown. */
  slots(node: string, { model, variant }: Pick<SchedulingRequest, 'model' | 'variant'>): number | null {
    return this.#fleet.node(node)?.runner(model, variant).slots ?? null
  }

  /** Slots of each model that a node has in memory. */
  slotsOf(node: string): ReadonlyMap<string, number> {
    const loaded = this.#fleet.node(node)?.loaded.values() ?? []
    return new Map(Array.from(loaded, ({ model, slots }) => [model, slots]))
  }

  /** Seconds after which the caller of a queued request should try again, with jitter (QueueLimits). */
  retryAfterS(id: string, now: number): number {
    const entry = this.#queue.get(id)
    return this.#queueLimits.retryAfterS(entry ? this.#pass.waitS(entry, now) : 0)
  }

  /** Seconds until the next attempt to load the model, with jitter; null unless a failed load is all that a request waits for. */
  loadRetryS(request: SchedulingRequest, now: number): number | null {
    const list = this.#listFor(request, now)
    const failed = failedLoadOf(this.#entryOf(request, list, now), list, now)
    return failed && this.#queueLimits.retryAfterS(failed.until - now)
  }

  /** What a queued request waits for; null when that is unknown, or when it is not in the queue. */
  plan(id: string): EntryPlan | null {
    return this.#queue.get(id)?.plan ?? null
  }

  /** The queue in the order in which it will be served if nothing else happens. */
  queued(): QueuedRequest[] {
    const queued: QueuedRequest[] = []
    const order = this.#queue.inOrder()
    for (let next = order.next(); next; next = order.next()) {
      const { request, plan } = next.entry
      queued.push({ request, plan })
    }
    return queued
  }

  /** The last 1,000 requests that were sent and the last 1,000 that were not, the newest first. */
  decisions(): readonly LoggedDecision[] {
    return this.#log.latest()
  }

  /** The nodes that other instances should leave to this one for a while, and for which model. */
  claims(now: number): ReadonlyMap<string, Claim> {
    const parts = {
      fleet: this.#fleet,
      lists: this.#lists,
      queue: this.#queue,
      parameters: this.#parameters.swaps,
    }
    return claimsOf(parts, now)
  }

  learned(): LearnedState {
    return this.#learning.state()
  }

  restore(state: LearnedState): void {
    this.#learning.restore(state)
  }

  /** Whether a pass could decide anything: a request waits, or a swap has victims that still run requests. */
  get hasWork(): boolean {
    return this.#queue.length > 0 || this.#swaps.isDraining
  }

  #leave(id: string, why: WithdrawalReason, now: number): void {
    const entry = this.#queue.get(id)
    if (!entry) {
      this.#inFlight.left(id, now)
      return
    }
    this.#queue.remove(id, now)
    this.#log.unsent(entry.request, why, now)
  }

  /** Puts a request into the queue. The next pass decides whether it may stay. */
  #arrive(request: SchedulingRequest, now: number): void {
    if (this.#queue.get(request.id) || this.#inFlight.has(request.id)) return
    const list = this.#listFor(request, now)
    // Callers choose model names, so unknown models leave no trace.
    if (list.runners.length > 0) this.#learning.arrived(request, now)
    const entry = this.#entryOf(request, list, now)
    // A request that comes back from a failed node was admitted before.
    const isNew = request.tried.size === 0
    const fleetS = charge(entry, this.#parameters) * list.fleetPerToken(now)
    if (isNew) this.#reservation.requested(request.tenant, entry.classParameters.rank, fleetS, now)
    this.#queue.add(entry, isNew, now)
  }

  #listFor(request: SchedulingRequest, now: number): Candidates {
    return this.#lists.of(request, now)
  }

  #entryOf(request: SchedulingRequest, list: Candidates, now: number): QueueEntry {
    const classParameters = this.#parametersOf(request)
    const flow = list.flow(now)
    return {
      request,
      classParameters,
      isPicky: request.tried.size > 0 || Object.keys(request.labels).length > 0,
      since: now,
      latestStart: request.arrivedAt + classParameters.ttftS - request.promptTokens * flow.prefillPerToken,
      cachedTokens: this.#parameters.uses.affinity ? this.#prefixIndex.cachedTokens(request) : new Map(),
      output: restOf(request, 0, this.#learning),
      drainS: flow.perS > 0 ? 1 / flow.perS : 0,
      plan: null,
      dueAt: Number.POSITIVE_INFINITY,
    }
  }

  #parametersOf(request: SchedulingRequest): ClassParameters {
    return this.#parameters.classes[request.class] ?? this.#parameters.otherClass
  }
}
