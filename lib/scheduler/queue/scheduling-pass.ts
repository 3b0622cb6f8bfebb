import type { Policy } from '../../fleet/policies.ts'
import type { Random } from '../../shared/random.ts'
import type { CandidateLists } from '../cost/candidate-lists.ts'
import type { Candidates } from '../cost/candidates.ts'
import { type Chooser, chooserFor } from '../cost/chooser.ts'
import type { CostTerms } from '../cost/cost-terms.ts'
import { decisionOn, failedLoadOf } from '../cost/selection.ts'
import type { DecisionLog } from '../decision-log.ts'
import type { Effect, RefusalReason } from '../events.ts'
import type { Runner } from '../fleet/runner.ts'
import type { Swaps } from '../fleet/swaps.ts'
import type { Parameters } from '../parameters.ts'
import { promptOn, type QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'
import type { Group } from './groups.ts'
import type { InFlight } from './in-flight.ts'
import { PassBudget } from './pass-budget.ts'
import type { QueueLimits } from './queue-limits.ts'
import type { ReservationLimits, TenantReservation } from './tenant-reservation.ts'

interface Parts {
  readonly parameters: Parameters
  readonly lists: CandidateLists
  readonly queue: FairQueue
  readonly inFlight: InFlight
  readonly swaps: Swaps
  readonly queueLimits: QueueLimits
  readonly reservation: TenantReservation
  readonly log: DecisionLog
  readonly random: Random
}

/**
 * One pass over the queue (docs/routing.md#queue-pass): in order, each request gets the place where it costs least, given the
 * places of all before it. It starts if the place is free now; else it waits, and the place is planned for it.
 */
export class SchedulingPass {
  readonly #parts: Parts
  readonly #budget: PassBudget
  #chooser: Chooser | null
  /** Decisions of the current pass. */
  #effects: Effect[] = []
  readonly #planned: { readonly list: Candidates; readonly row: number }[] = []
  /** Lists where a tenant is held back, and at which rank: less urgent requests take no slot there. */
  readonly #heldBack = new Map<Candidates, { readonly rank: number; readonly startsAt: number }>()
  /** Swaps that the current pass began, by model. */
  readonly #begun = new Map<string, number>()

  constructor(parts: Parts, policy: Policy) {
    this.#parts = parts
    this.#budget = new PassBudget(parts.parameters.queue)
    this.#chooser = chooserFor(policy, parts.random)
  }

  usePolicy(policy: Policy): void {
    this.#chooser = chooserFor(policy, this.#parts.random)
  }

  run(now: number): Effect[] {
    this.#effects = []
    this.#parts.queue.age(now)
    this.#expire(now)
    this.#advanceSwaps(now)
    if (this.#chooser) this.#forward(this.#chooser, now)
    else this.#plan(now)
    this.#limitNewcomers(now)
    this.#forget()
    // Swaps that have just begun may have no requests to wait for.
    this.#advanceSwaps(now)
    return this.#effects
  }

  /** Forgets the plans of the pass. */
  #forget(): void {
    for (let each = this.#planned.pop(); each; each = this.#planned.pop()) each.list.unplan(each.row)
    // `clear` allocates a new table even if the map is empty.
    if (this.#heldBack.size > 0) this.#heldBack.clear()
    if (this.#begun.size > 0) this.#begun.clear()
  }

  #advanceSwaps(now: number): void {
    const { queue, swaps } = this.#parts
    this.#effects.push(...swaps.advance((model) => queue.ofModel(model) > 0, now))
  }

  /** Refuses requests that have waited too long. */
  #expire(now: number): void {
    const { queue, parameters } = this.#parts
    const { maxWaitS } = parameters.admission
    for (let { oldest } = queue; oldest && now >= oldest.since + maxWaitS; { oldest } = queue)
      this.#refuse(oldest, 'waited-too-long', this.waitS(oldest, now), now)
  }

  /** Sends every request on at once; the nodes queue them. */
  #forward(choose: Chooser, now: number): void {
    for (const entry of [...this.#parts.queue.all()]) {
      const list = this.#listFor(entry, now)
      // A policy that ignores costs may choose a row that needs a load: the decision records its duration.
      list.computeLoads(Number.POSITIVE_INFINITY, now)
      const row = choose(list, entry)
      if (row >= 0) this.#start(entry, list, row, now)
      else this.#refuse(entry, 'no-node', 0, now)
    }
  }

  /** Places the queue in order, as far as the budget goes. */
  #plan(now: number): void {
    const { queue, lists } = this.#parts
    const budget = this.#budget
    const isOpen = (group: Group) => lists.of(group, now).isOpen
    budget.begin(queue.groups, isOpen, now)
    const order = queue.inOrder((group) => !budget.allows(group))
    for (let next = order.next(); next; next = budget.isSpent ? undefined : order.next()) {
      const { entry, group, priority } = next
      const list = this.#listFor(entry, now)
      if (!list.isOpen) budget.close(group)
      budget.spend(group, this.#place(entry, priority.rank, list, now))
    }
  }

  /** Returns whether the request left the queue. */
  #place(entry: QueueEntry, rank: number, list: Candidates, now: number): boolean {
    const { parameters, random, reservation } = this.#parts
    const held = this.#heldBack.get(list)
    if (held && held.rank < rank) {
      entry.plan = { node: null, waitsFor: 'slot', startsAt: held.startsAt }
      return this.#refuseHopeless(entry, list, now)
    }
    const limits = reservation.limits(entry.request.tenant, rank, now)
    if (limits) return this.#placeInSpare(entry, list, limits, now)
    const row = list.cheapest(entry, random, now)
    if (row < 0) {
      entry.plan = null
      return this.#refuseHopeless(entry, list, now)
    }
    const { state } = list.costTerms(row)
    if (state === 'ready' || (state === 'full' && !parameters.uses.lateBinding))
      return this.#start(entry, list, row, now)
    const free = this.#freeInstead(entry, list, row, now)
    if (free >= 0) return this.#start(entry, list, free, now)
    this.#reserve(entry, list, row, now)
    return false
  }

  /**
   * The row with a free slot that a request takes instead of the one it waits for, or -1. An overdue wait will probably last
   * as long again: the other row may cost that much more.
   */
  #freeInstead(entry: QueueEntry, list: Candidates, row: number, now: number): number {
    const overdueS = now - entry.dueAt
    if (!(overdueS > 0)) return -1
    return list.cheapestFree(entry, list.cost(row, entry, now) + overdueS, this.#parts.random, now)
  }

  /** Starts a request of a held-back tenant if a slot beyond the others' reserve is free; no place is planned for it. */
  #placeInSpare(
    entry: QueueEntry,
    list: Candidates,
    { others, part }: ReservationLimits,
    now: number,
  ): boolean {
    const { queue, random } = this.#parts
    const row = list.cheapestSpare(entry, others, random, now)
    if (row >= 0) return this.#start(entry, list, row, now)
    // The tenant's requests get what the others leave.
    const startsAt = now + queue.drainS(entry.request) / part
    entry.plan = { node: null, waitsFor: 'share', startsAt }
    if (!this.#heldBack.has(list)) this.#heldBack.set(list, { rank: queue.rankOf(entry), startsAt })
    return this.#refuseHopeless(entry, list, now)
  }

  /** Refuses a request that has no place, now or later, or only places where the load has just failed. */
  #refuseHopeless(entry: QueueEntry, list: Candidates, now: number): boolean {
    if (!list.admitsAnywhere(entry)) return this.#refuse(entry, 'no-node', 0, now)
    const failed = failedLoadOf(entry, list, now)
    return failed !== null && this.#refuse(entry, 'load-failed', failed.until - now, now, failed.node)
  }

  #start(entry: QueueEntry, list: Candidates, row: number, now: number): boolean {
    const { queue, inFlight } = this.#parts
    const { request } = entry
    const runner = list.runners[row]
    if (!runner) return false
    const decision = decisionOn(entry, list, row, now)
    queue.started(request, now)
    inFlight.start(entry, runner, decision, now)
    this.#effects.push({ type: 'start', id: request.id, node: runner.node.name, decision })
    return true
  }

  /** Plans the place for the request during this pass, and begins a swap if the model is not in memory. */
  #reserve(entry: QueueEntry, list: Candidates, row: number, now: number): void {
    const runner = list.runners[row]
    const { state, eviction } = list.costTerms(row)
    if (!runner) return
    const waitsFor = state === 'full' ? 'slot' : 'load'
    const startsAt = list.start(row)
    entry.plan = { node: runner.node.name, waitsFor, startsAt }
    if (entry.dueAt === Number.POSITIVE_INFINITY) entry.dueAt = startsAt
    if (eviction) {
      if (!this.#begin(runner, eviction, now)) return
      list.refresh(now)
    }
    const { prefillPerToken, decodePerToken } = list.costTerms(row)
    list.plan(row, promptOn(runner, entry) * prefillPerToken + entry.output * decodePerToken)
    this.#planned.push({ list, row })
  }

  #listFor({ request }: QueueEntry, now: number): Candidates {
    return this.#parts.lists.of(request, now)
  }

  /** Begins a swap if the pass may begin one more for the model. Returns whether it did. */
  #begin(runner: Runner, eviction: NonNullable<CostTerms['eviction']>, now: number): boolean {
    const { parameters, swaps } = this.#parts
    const begun = this.#begun.get(runner.model) ?? 0
    if (begun >= parameters.swaps.perModel) return false
    this.#begun.set(runner.model, begun + 1)
    swaps.begin(runner, eviction.victims, now)
    return true
  }

  /** Decides which newcomers may wait; the last to arrive is the first to be refused. */
  #limitNewcomers(now: number): void {
    const { queue, queueLimits } = this.#parts
    for (const entry of queue.takeNewcomers()) {
      const { request } = entry
      // It may have been removed in favour of another newcomer.
      if (!queue.get(request.id)) continue
      const list = this.#listFor(entry, now)
      if (!list.admitsAnywhere(entry)) {
        this.#refuse(entry, 'no-node', 0, now)
        continue
      }
      const waitS = this.waitS(entry, now)
      const ttftS = now - request.arrivedAt + waitS + request.promptTokens * list.flow(now).prefillPerToken
      const reason = queueLimits.check(entry, queue, ttftS)
      const refused = reason === 'queue-full' ? (queue.last ?? entry) : entry
      if (reason) this.#refuse(refused, reason, this.waitS(refused, now), now)
    }
  }

  /** Predicted seconds until the start: as planned, else by the speed of the queue. */
  waitS(entry: QueueEntry, now: number): number {
    const { request, plan } = entry
    if (plan) return Math.max(0, plan.startsAt - now)
    const { perS, loadS } = this.#listFor(entry, now).flow(now)
    const ahead = this.#parts.queue.ofModel(request.model) - 1
    return loadS + (perS > 0 ? ahead / perS : 0)
  }

  /** @param node where the load failed, if that is the reason. */
  #refuse({ request }: QueueEntry, reason: RefusalReason, waitS: number, now: number, node?: string): true {
    const { queue, queueLimits, log } = this.#parts
    queue.remove(request.id, now)
    log.unsent(request, reason, now)
    const retryAfterS = queueLimits.retryAfterS(waitS)
    this.#effects.push({ type: 'refuse', id: request.id, reason, retryAfterS, ...(node && { node }) })
    return true
  }
}
