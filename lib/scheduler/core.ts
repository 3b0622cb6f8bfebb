import type { Policy } from '../fleet/policies.ts'
import type { Random } from '../shared/random.ts'
import { CandidateLists } from './cost/candidate-lists.ts'
import type { Candidates } from './cost/candidates.ts'
import { restOf } from './cost/completion.ts'
import type { CostContext } from './cost/context.ts'
import { PrefixIndex } from './cost/prefix-index.ts'
import { failedLoadOf } from './cost/selection.ts'
import { DecisionLog, type LoggedDecision } from './decision-log.ts'
import type { Effect, SchedulerEvent, SchedulingRequest, WithdrawalReason } from './events.ts'
import { FleetState } from './fleet/fleet-state.ts'
import { Swaps } from './fleet/swaps.ts'
import { type LearnedState, Learning } from './learning/learning.ts'
import type { ClassRule, Parameters } from './parameters.ts'
import { FairQueue } from './queue/fair-queue.ts'
import { InFlight } from './queue/in-flight.ts'
import { QueueLimits } from './queue/queue-limits.ts'
import { charge } from './queue/queue-order.ts'
import { SchedulingPass } from './queue/scheduling-pass.ts'
import { TenantReservation } from './queue/tenant-reservation.ts'
import { Tenants } from './queue/tenants.ts'
import { estimateWait, type WaitEstimate } from './queue/wait-estimate.ts'
import type { EntryPlan, QueueEntry } from './queue-entry.ts'

/** Decisions that are kept to be looked at. */
const decisionsKept = 1000

interface CoreOptions {
  readonly policy: Policy
  readonly parameters: Parameters
  readonly random: Random
  /** Told of each request whose first token came. */
  readonly begun?: (entry: LoggedDecision) => void
}

/** A request in the queue, as it is shown. */
export interface QueuedWork {
  readonly work: SchedulingRequest
  /** Null while no pass has come so far. */
  readonly plan: EntryPlan | null
}

/**
 * The scheduler: earliest finish, late binding, one queue (docs/routing.md). It owns all that is known of slots,
 * requests, memory, speeds, prefixes and tenants. It is told what happens, and answers what to do: no sockets, no timers.
 */
export class Core {
  readonly #rules: Parameters
  readonly #learning: Learning
  readonly #fleet: FleetState
  readonly #lists: CandidateLists
  readonly #tenants: Tenants
  readonly #lines: FairQueue
  readonly #prefixes: PrefixIndex
  readonly #log: DecisionLog
  readonly #flights: InFlight
  readonly #swaps: Swaps
  readonly #admission: QueueLimits
  readonly #restraint: TenantReservation
  readonly #pass: SchedulingPass

  constructor({ policy, parameters, random, begun = () => {} }: CoreOptions) {
    this.#rules = parameters
    this.#learning = new Learning(parameters)
    this.#fleet = new FleetState(this.#learning, parameters.swaps)
    const context: CostContext = {
      fleet: this.#fleet,
      learning: this.#learning,
      rules: parameters,
      victims: new WeakMap(),
    }
    this.#lists = new CandidateLists(context)
    this.#log = new DecisionLog(decisionsKept, begun)
    this.#tenants = new Tenants(parameters)
    this.#lines = new FairQueue(parameters, this.#tenants)
    this.#prefixes = new PrefixIndex(parameters.prefixes)
    this.#flights = new InFlight(context, this.#lines, this.#tenants, this.#prefixes, this.#log)
    this.#swaps = new Swaps(this.#fleet, parameters.swaps)
    this.#admission = new QueueLimits(parameters, random)
    this.#restraint = new TenantReservation(parameters, this.#tenants)
    this.#pass = new SchedulingPass(
      {
        rules: parameters,
        lists: this.#lists,
        lines: this.#lines,
        flights: this.#flights,
        swaps: this.#swaps,
        admission: this.#admission,
        restraint: this.#restraint,
        log: this.#log,
        random,
      },
      policy,
    )
  }

  /** Takes in what happened. Whoever tells something has `pass` run before the turn of the event loop ends. */
  take(event: SchedulerEvent, now: number): void {
    this.#flights.settle(now)
    switch (event.type) {
      case 'arrived':
        this.#arrive(event.work, now)
        break
      case 'left':
        this.#leave(event.id, event.why ?? 'left', now)
        break
      case 'first-token':
        this.#flights.firstToken(event.id, now)
        break
      case 'tokens':
        this.#flights.tokens(event.id, event.tokens, now)
        break
      case 'ended':
        this.#flights.end(event.id, event, now)
        break
      case 'busy':
        this.#flights.refused(event.id, now)
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

  /** Decides on all that waits. */
  pass(now: number): Effect[] {
    this.#flights.settle(now)
    return this.isWaitedFor ? this.#pass.run(now) : []
  }

  /** When time alone may change something, in monotonic seconds; null while nothing waits. */
  nextTickAt(now: number): number | null {
    if (!this.isWaitedFor) return null
    const { oldest, changesAt } = this.#lines
    const expiresAt = oldest ? oldest.since + this.#rules.admission.maxWaitS : Number.POSITIVE_INFINITY
    return Math.min(now + this.#rules.queue.tickS, changesAt, expiresAt, this.#flights.settlesAt)
  }

  /** What would be decided on a request now, queued or not. Nothing is changed. */
  explain(work: SchedulingRequest, now: number): WaitEstimate {
    const list = this.#listFor(work, now)
    const waiting = this.#lines.get(work.id) ?? this.#waiting(work, list, now)
    const limits = this.#restraint.limits(work.tenant, this.#lines.rankOf(waiting), now)
    return estimateWait(waiting, { list, lines: this.#lines, admission: this.#admission, limits }, now)
  }

  /** Chooses nodes by another policy from the next pass on. */
  use(policy: Policy): void {
    this.#pass.use(policy)
  }

  /** Has everybody stand anew: the rules of the classes are others. */
  reclassify(now: number): void {
    for (const { work, since, plan, dueAt } of [...this.#lines.all()]) {
      this.#lines.remove(work.id, now)
      this.#lines.add(
        { ...this.#waiting(work, this.#listFor(work, now), now), since, plan, dueAt },
        false,
        now,
      )
    }
  }

  /** Whether a request has a place now, or will have one once a slot is free, a pause ends or a trial tells. */
  couldServe(work: SchedulingRequest, now: number): boolean {
    const list = this.#listFor(work, now)
    return list.admitsAnywhere(this.#lines.get(work.id) ?? this.#waiting(work, list, now))
  }

  /** Whether breakers keep a request from so many of its nodes that they are not believed. */
  isPanic(work: SchedulingRequest, now: number): boolean {
    const list = this.#listFor(work, now)
    return list.isPanic(this.#waiting(work, list, now))
  }

  /** Whether a node has a request's model in memory, and could serve it with that. */
  residence(node: string, { model, variant }: SchedulingRequest): 'same' | 'other' | 'none' {
    const runner = this.#fleet.node(node)?.loaded.get(model)
    if (!runner) return 'none'
    return runner.serves(variant) ? 'same' : 'other'
  }

  /** How many requests for a model a node takes at once by now, configured or learned; null: the node is unknown. */
  slots(node: string, { model, variant }: Pick<SchedulingRequest, 'model' | 'variant'>): number | null {
    return this.#fleet.node(node)?.runner(model, variant).slots ?? null
  }

  /** The same of the models that a node has in memory. */
  slotsOf(node: string): ReadonlyMap<string, number> {
    const loaded = this.#fleet.node(node)?.loaded.values() ?? []
    return new Map(Array.from(loaded, ({ model, slots }) => [model, slots]))
  }

  /** Seconds after which it may help to ask again for what a request in the queue asks for; varied (see Admission). */
  retryAfterS(id: string, now: number): number {
    const waiting = this.#lines.get(id)
    return this.#admission.retryAfterS(waiting ? this.#pass.waitS(waiting, now) : 0)
  }

  /** Seconds until a request's model is loaded again, where that failed just now and is all that would help; varied. */
  loadRetryS(work: SchedulingRequest, now: number): number | null {
    const list = this.#listFor(work, now)
    const failed = failedLoadOf(this.#waiting(work, list, now), list, now)
    return failed && this.#admission.retryAfterS(failed.until - now)
  }

  /** What a request in the queue waits for; null when nobody can tell, or when it is not there. */
  plan(id: string): EntryPlan | null {
    return this.#lines.get(id)?.plan ?? null
  }

  /** All that waits, as it will be served if nothing else happens. */
  queued(): QueuedWork[] {
    const queued: QueuedWork[] = []
    const order = this.#lines.inOrder()
    for (let next = order.next(); next; next = order.next()) {
      const { work, plan } = next.waiting
      queued.push({ work, plan })
    }
    return queued
  }

  /** The last 1,000 of those sent and of those not sent, the newest first. */
  decisions(): readonly LoggedDecision[] {
    return this.#log.latest()
  }

  learned(): LearnedState {
    return this.#learning.state()
  }

  restore(state: LearnedState): void {
    this.#learning.restore(state)
  }

  /** Whether there is anything to decide: a request waits, or a swap does. */
  get isWaitedFor(): boolean {
    return this.#lines.length > 0 || this.#swaps.isDraining
  }

  #leave(id: string, why: WithdrawalReason, now: number): void {
    const waiting = this.#lines.get(id)
    if (!waiting) {
      this.#flights.left(id, now)
      return
    }
    this.#lines.remove(id, now)
    this.#log.unsent(waiting.work, why, now)
  }

  /** Puts a request into its line. The next pass decides whether it may stay there. */
  #arrive(work: SchedulingRequest, now: number): void {
    if (this.#lines.get(work.id) || this.#flights.has(work.id)) return
    const list = this.#listFor(work, now)
    // Of models that nobody has nothing is kept: callers choose the names.
    if (list.runners.length > 0) this.#learning.arrived(work, now)
    const waiting = this.#waiting(work, list, now)
    // Whoever comes back from a node that failed it was let in before.
    const isNew = work.tried.size === 0
    const fleetS = charge(waiting, this.#rules) * list.fleetPerToken(now)
    if (isNew) this.#restraint.asked(work.tenant, waiting.rule.rank, fleetS, now)
    this.#lines.add(waiting, isNew, now)
  }

  #listFor(work: SchedulingRequest, now: number): Candidates {
    return this.#lists.of(work, now)
  }

  #waiting(work: SchedulingRequest, list: Candidates, now: number): QueueEntry {
    const rule = this.#ruleOf(work)
    const flow = list.flow(now)
    return {
      work,
      rule,
      isPicky: work.tried.size > 0 || Object.keys(work.nodes).length > 0,
      since: now,
      latestStart: work.arrivedAt + rule.ttftS - work.promptTokens * flow.prefillPerToken,
      hits: this.#rules.uses.affinity ? this.#prefixes.cachedTokens(work) : new Map(),
      output: restOf(work, 0, this.#learning),
      drainS: flow.perS > 0 ? 1 / flow.perS : 0,
      plan: null,
      dueAt: Number.POSITIVE_INFINITY,
    }
  }

  #ruleOf(work: SchedulingRequest): ClassRule {
    return this.#rules.classes[work.class] ?? this.#rules.otherClass
  }
}
