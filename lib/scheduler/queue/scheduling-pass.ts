import type { Policy } from '../../fleet/policies.ts'
import type { Random } from '../../shared/random.ts'
import type { CandidateLists } from '../cost/candidate-lists.ts'
import type { Candidates } from '../cost/candidates.ts'
import type { CostTerms } from '../cost/cost-terms.ts'
import { type Chooser, chooserFor } from '../cost/policies.ts'
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
  readonly rules: Parameters
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
 * One look at the whole queue (docs/routing.md#queue-pass): in its order each request is given the place where it costs least,
 * as though all before it had theirs. Whoever's place is free now starts; the others hold, and so does their place.
 */
export class SchedulingPass {
  readonly #parts: Parts
  readonly #budget: PassBudget
  #chooser: Chooser | null
  /** What the pass under way has decided. */
  #effects: Effect[] = []
  readonly #planned: { readonly list: Candidates; readonly row: number }[] = []
  /** Where somebody is held back, and how urgent that is: the less urgent take nothing there. */
  readonly #held = new Map<Candidates, { readonly rank: number; readonly startsAt: number }>()
  /** Swaps that it began, by model. */
  readonly #begun = new Map<string, number>()

  constructor(parts: Parts, policy: Policy) {
    this.#parts = parts
    this.#budget = new PassBudget(parts.rules.queue)
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
    // Those that have just begun may have nothing to wait for.
    this.#advanceSwaps(now)
    return this.#effects
  }

  /** Forgets what was planned. */
  #forget(): void {
    for (let each = this.#planned.pop(); each; each = this.#planned.pop()) each.list.unplan(each.row)
    // Each `clear` makes a new table, also of what is empty.
    if (this.#held.size > 0) this.#held.clear()
    if (this.#begun.size > 0) this.#begun.clear()
  }

  #advanceSwaps(now: number): void {
    const { queue, swaps } = this.#parts
    this.#effects.push(...swaps.advance((model) => queue.ofModel(model) > 0, now))
  }

  /** Refuses whoever has waited too long. */
  #expire(now: number): void {
    const { queue, rules } = this.#parts
    const { maxWaitS } = rules.admission
    for (let { oldest } = queue; oldest && now >= oldest.since + maxWaitS; { oldest } = queue)
      this.#refuse(oldest, 'waited-too-long', this.waitS(oldest, now), now)
  }

  /** Sends everybody on at once, for nodes to queue. */
  #forward(choose: Chooser, now: number): void {
    for (const entry of [...this.#parts.queue.all()]) {
      const list = this.#listFor(entry, now)
      // Whoever does not look at costs may well choose a place that has to load: its decision tells how long that takes.
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

  /** Whether it left the queue. */
  #place(entry: QueueEntry, rank: number, list: Candidates, now: number): boolean {
    const { rules, random, reservation } = this.#parts
    const held = this.#held.get(list)
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
    if (state === 'ready' || (state === 'full' && !rules.uses.lateBinding))
      return this.#start(entry, list, row, now)
    const free = this.#freeInstead(entry, list, row, now)
    if (free >= 0) return this.#start(entry, list, free, now)
    this.#hold(entry, list, row, now)
    return false
  }

  /**
   * The row with a free slot that a request takes instead of the one it waits for, or -1. A wait that has outlasted its
   * prediction is likely to last as long again: so much more the other may cost.
   */
  #freeInstead(entry: QueueEntry, list: Candidates, row: number, now: number): number {
    const overdueS = now - entry.dueAt
    if (!(overdueS > 0)) return -1
    return list.cheapestFree(entry, list.cost(row, entry, now) + overdueS, this.#parts.random, now)
  }

  /** Starts a request of a tenant that is held back if it takes nothing from the others; no place is kept for it. */
  #placeInSpare(
    entry: QueueEntry,
    list: Candidates,
    { others, part }: ReservationLimits,
    now: number,
  ): boolean {
    const { queue, random } = this.#parts
    const row = list.cheapestSpare(entry, others, random, now)
    if (row >= 0) return this.#start(entry, list, row, now)
    // Its tenant's line gets what the others leave.
    const startsAt = now + queue.drainS(entry.request) / part
    entry.plan = { node: null, waitsFor: 'share', startsAt }
    if (!this.#held.has(list)) this.#held.set(list, { rank: queue.rankOf(entry), startsAt })
    return this.#refuseHopeless(entry, list, now)
  }

  /** Refuses who has no place, now or later, or only where its model could not be loaded just now. */
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

  /** Keeps the place for the request while this pass lasts, and has the model loaded where it is not. */
  #hold(entry: QueueEntry, list: Candidates, row: number, now: number): void {
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

  /** Whether one more load of the model may begin in this pass. */
  #begin(runner: Runner, eviction: NonNullable<CostTerms['eviction']>, now: number): boolean {
    const { rules, swaps } = this.#parts
    const begun = this.#begun.get(runner.model) ?? 0
    if (begun >= rules.swaps.perModel) return false
    this.#begun.set(runner.model, begun + 1)
    swaps.begin(runner, eviction.victims, now)
    return true
  }

  /** Decides which newcomers may wait; the last ones to come are the first to go. */
  #limitNewcomers(now: number): void {
    const { queue, queueLimits } = this.#parts
    for (const entry of queue.takeNewcomers()) {
      const { request } = entry
      // Another newcomer may have pushed it out.
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

  /** Predicted seconds until it starts: as planned, else by how fast its line moves. */
  waitS(entry: QueueEntry, now: number): number {
    const { request, plan } = entry
    if (plan) return Math.max(0, plan.startsAt - now)
    const { perS, loadS } = this.#listFor(entry, now).flow(now)
    const ahead = this.#parts.queue.ofModel(request.model) - 1
    return loadS + (perS > 0 ? ahead / perS : 0)
  }

  /** @param node whose load failed, if that is the reason. */
  #refuse({ request }: QueueEntry, reason: RefusalReason, waitS: number, now: number, node?: string): true {
    const { queue, queueLimits, log } = this.#parts
    queue.remove(request.id, now)
    log.unsent(request, reason, now)
    const retryAfterS = queueLimits.retryAfterS(waitS)
    this.#effects.push({ type: 'refuse', id: request.id, reason, retryAfterS, ...(node && { node }) })
    return true
  }
}
