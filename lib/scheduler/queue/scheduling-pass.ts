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
  readonly lines: FairQueue
  readonly flights: InFlight
  readonly swaps: Swaps
  readonly admission: QueueLimits
  readonly restraint: TenantReservation
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

  use(policy: Policy): void {
    this.#chooser = chooserFor(policy, this.#parts.random)
  }

  run(now: number): Effect[] {
    this.#effects = []
    this.#parts.lines.age(now)
    this.#expire(now)
    this.#advanceSwaps(now)
    if (this.#chooser) this.#forward(this.#chooser, now)
    else this.#plan(now)
    this.#judge(now)
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
    const { lines, swaps } = this.#parts
    this.#effects.push(...swaps.advance((model) => lines.ofModel(model) > 0, now))
  }

  /** Refuses whoever has waited too long. */
  #expire(now: number): void {
    const { lines, rules } = this.#parts
    const { maxWaitS } = rules.admission
    for (let { oldest } = lines; oldest && now >= oldest.since + maxWaitS; { oldest } = lines)
      this.#refuse(oldest, 'waited-too-long', this.waitS(oldest, now), now)
  }

  /** Sends everybody on at once, for nodes to queue. */
  #forward(choose: Chooser, now: number): void {
    for (const waiting of [...this.#parts.lines.all()]) {
      const list = this.#listFor(waiting, now)
      // Whoever does not look at costs may well choose a place that has to load: its decision tells how long that takes.
      list.workOutLoads(Number.POSITIVE_INFINITY, now)
      const row = choose(list, waiting)
      if (row >= 0) this.#start(waiting, list, row, now)
      else this.#refuse(waiting, 'no-node', 0, now)
    }
  }

  /** Places the queue in order, as far as the budget goes. */
  #plan(now: number): void {
    const { lines, lists } = this.#parts
    const budget = this.#budget
    const isOpen = (group: Group) => lists.of(group, now).isOpen
    budget.begin(lines.groups, isOpen, now)
    const order = lines.inOrder((group) => !budget.allows(group))
    for (let next = order.next(); next; next = budget.isSpent ? undefined : order.next()) {
      const { waiting, group, standing } = next
      const list = this.#listFor(waiting, now)
      if (!list.isOpen) budget.close(group)
      budget.spend(group, this.#place(waiting, standing.rank, list, now))
    }
  }

  /** Whether it left the queue. */
  #place(waiting: QueueEntry, rank: number, list: Candidates, now: number): boolean {
    const { rules, random, restraint } = this.#parts
    const held = this.#held.get(list)
    if (held && held.rank < rank) {
      waiting.plan = { node: null, waitsFor: 'slot', startsAt: held.startsAt }
      return this.#refuseHopeless(waiting, list, now)
    }
    const limits = restraint.limits(waiting.work.tenant, rank, now)
    if (limits) return this.#placeModestly(waiting, list, limits, now)
    const row = list.cheapest(waiting, random, now)
    if (row < 0) {
      waiting.plan = null
      return this.#refuseHopeless(waiting, list, now)
    }
    const { state } = list.terms(row)
    if (state === 'ready' || (state === 'full' && !rules.uses.lateBinding))
      return this.#start(waiting, list, row, now)
    const free = this.#freeInstead(waiting, list, row, now)
    if (free >= 0) return this.#start(waiting, list, free, now)
    this.#hold(waiting, list, row, now)
    return false
  }

  /**
   * The row with a free slot that a request takes instead of the one it waits for, or -1. A wait that has outlasted its
   * prediction is likely to last as long again: so much more the other may cost.
   */
  #freeInstead(waiting: QueueEntry, list: Candidates, row: number, now: number): number {
    const overdueS = now - waiting.dueAt
    if (!(overdueS > 0)) return -1
    return list.cheapestFree(waiting, list.cost(row, waiting, now) + overdueS, this.#parts.random, now)
  }

  /** Starts a request of a tenant that is held back if it takes nothing from the others; no place is kept for it. */
  #placeModestly(
    waiting: QueueEntry,
    list: Candidates,
    { others, part }: ReservationLimits,
    now: number,
  ): boolean {
    const { lines, random } = this.#parts
    const row = list.cheapestModest(waiting, others, random, now)
    if (row >= 0) return this.#start(waiting, list, row, now)
    // Its tenant's line gets what the others leave.
    const startsAt = now + lines.drainS(waiting.work) / part
    waiting.plan = { node: null, waitsFor: 'share', startsAt }
    if (!this.#held.has(list)) this.#held.set(list, { rank: lines.rankOf(waiting), startsAt })
    return this.#refuseHopeless(waiting, list, now)
  }

  /** Refuses who has no place, now or later, or only where its model could not be loaded just now. */
  #refuseHopeless(waiting: QueueEntry, list: Candidates, now: number): boolean {
    if (!list.admitsAnywhere(waiting)) return this.#refuse(waiting, 'no-node', 0, now)
    const failed = failedLoadOf(waiting, list, now)
    return failed !== null && this.#refuse(waiting, 'load-failed', failed.until - now, now, failed.node)
  }

  #start(waiting: QueueEntry, list: Candidates, row: number, now: number): boolean {
    const { lines, flights } = this.#parts
    const { work } = waiting
    const runner = list.runners[row]
    if (!runner) return false
    const decision = decisionOn(waiting, list, row, now)
    lines.started(work, now)
    flights.start(waiting, runner, decision, now)
    this.#effects.push({ type: 'start', id: work.id, node: runner.node.name, decision })
    return true
  }

  /** Keeps the place for the request while this pass lasts, and has the model loaded where it is not. */
  #hold(waiting: QueueEntry, list: Candidates, row: number, now: number): void {
    const runner = list.runners[row]
    const { state, eviction } = list.terms(row)
    if (!runner) return
    const waitsFor = state === 'full' ? 'slot' : 'load'
    const startsAt = list.start(row)
    waiting.plan = { node: runner.node.name, waitsFor, startsAt }
    if (waiting.dueAt === Number.POSITIVE_INFINITY) waiting.dueAt = startsAt
    if (eviction) {
      if (!this.#begin(runner, eviction, now)) return
      list.refresh(now)
    }
    const { prefillPerToken, decodePerToken } = list.terms(row)
    list.plan(row, promptOn(runner, waiting) * prefillPerToken + waiting.output * decodePerToken)
    this.#planned.push({ list, row })
  }

  #listFor({ work }: QueueEntry, now: number): Candidates {
    return this.#parts.lists.of(work, now)
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
  #judge(now: number): void {
    const { lines, admission } = this.#parts
    for (const waiting of lines.takeNewcomers()) {
      const { work } = waiting
      // Another newcomer may have pushed it out.
      if (!lines.get(work.id)) continue
      const list = this.#listFor(waiting, now)
      if (!list.admitsAnywhere(waiting)) {
        this.#refuse(waiting, 'no-node', 0, now)
        continue
      }
      const waitS = this.waitS(waiting, now)
      const ttftS = now - work.arrivedAt + waitS + work.promptTokens * list.flow(now).prefillPerToken
      const reason = admission.judge(waiting, lines, ttftS)
      const refused = reason === 'queue-full' ? (lines.last ?? waiting) : waiting
      if (reason) this.#refuse(refused, reason, this.waitS(refused, now), now)
    }
  }

  /** Predicted seconds until it starts: as planned, else by how fast its line moves. */
  waitS(waiting: QueueEntry, now: number): number {
    const { work, plan } = waiting
    if (plan) return Math.max(0, plan.startsAt - now)
    const { perS, loadS } = this.#listFor(waiting, now).flow(now)
    const ahead = this.#parts.lines.ofModel(work.model) - 1
    return loadS + (perS > 0 ? ahead / perS : 0)
  }

  /** @param node whose load failed, if that is the reason. */
  #refuse({ work }: QueueEntry, reason: RefusalReason, waitS: number, now: number, node?: string): true {
    const { lines, admission, log } = this.#parts
    lines.remove(work.id, now)
    log.unsent(work, reason, now)
    const retryAfterS = admission.retryAfterS(waitS)
    this.#effects.push({ type: 'refuse', id: work.id, reason, retryAfterS, ...(node && { node }) })
    return true
  }
}
