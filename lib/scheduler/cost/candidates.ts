import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import type { Random } from '../../shared/random.ts'
import type { Runner } from '../fleet/runner.ts'
import type { QueueEntry } from '../queue-entry.ts'
import { type CostRows, CostTable } from './cost-table.ts'
import { fleetPerToken } from './fleet-per-token.ts'
import { type Flow, flowOf } from './flow.ts'

/** Seconds for which the fleet's capacity is cached: every request needs it, and it changes slowly. */
const capacityS = 30

/** The rows that a request may use now. */
interface Choice {
  readonly rows: readonly number[]
  /** Worst tier that is allowed; null: no row needs a check. */
  readonly upTo: Tier | null
  /** Rows without a slot before then are left out, in monotonic seconds. */
  readonly before: number
}

/**
 * Preference tiers. `last`: the breaker is open because of bad answers, or the leader says that the node is down; used in
 * panic only. `frozen`: the node answers nothing; used for first attempts that have no other place. `never`: the node
 * refused a connection a moment ago.
 */
const tiers = { well: 0, slow: 1, last: 2, frozen: 3, never: 4 } as const
type Tier = (typeof tiers)[keyof typeof tiers]

/** Chooses among the rows of one variant: which rows a request may use, and which one costs least. */
export class Candidates extends CostTable {
  #flow: { readonly at: number; readonly flow: Flow } | null = null
  #capacity: { readonly at: number; readonly perToken: number } | null = null
  readonly #everyRow: readonly number[]
  /** By row. A tier only changes with the facts of its node, and new facts make new lists. */
  readonly #tiers: readonly Tier[]
  /** Whether any row is worse than `well`. */
  readonly #isTiered: boolean
  readonly #worst = new WeakMap<QueueEntry, Tier>()
  /** The last answer of #hasRunner, which is needed row by row. Null after each change. */
  #lastAsked: { readonly entry: QueueEntry; readonly hasRunner: boolean } | null = null

  constructor(rows: CostRows, now: number) {
    super(rows, now)
    this.#everyRow = [...rows.runners.keys()]
    this.#tiers = rows.runners.map(tierOf)
    this.#isTiered = this.#tiers.some((tier) => tier !== tiers.well)
  }

  protected override renew(now: number): void {
    this.#lastAsked = null
    super.renew(now)
  }

  /**
   * The row where a request costs least, or -1 when no row has a known start. Among about equal costs the row with the most
   * free slots wins, then chance. A tier is used when no slot of a better tier is free.
   */
  cheapest(entry: QueueEntry, random: Random, now: number): number {
    if (!this.#isTiered) return this.#cheapestOf(tiers.never, entry, random, now)
    const worst = this.#worstFor(entry)
    for (const tier of [tiers.well, tiers.slow] as const) {
      if (tier >= worst) break
      const row = this.#cheapestOf(tier, entry, random, now)
      if (row >= 0 && this.costTerms(row).state === 'ready') return row
    }
    return this.#cheapestOf(worst, entry, random, now)
  }

  /**
   * The cheapest row for a request of a tenant that is held back, or -1: a row with more free slots than are reserved for the
   * others, there and in all, where no other model of the node is slowed down.
   *
   * @param others demand of the other tenants, as a share of the fleet's capacity.
   */
  cheapestSpare(entry: QueueEntry, others: number, random: Random, now: number): number {
    if (!this.#hasSpare(this.allFree, this.allSlots, others)) return -1
    const rows = this.#freeFor(entry).filter((row) => this.#isSpare(row, others))
    return this.#scan({ rows, upTo: null, before: now }, entry, random, now)
  }

  /** The cheapest row with a free slot that costs at most so many seconds, or -1. */
  cheapestFree(entry: QueueEntry, most: number, random: Random, now: number): number {
    if (this.allFree === 0) return -1
    const row = this.#scan({ rows: this.#freeFor(entry), upTo: null, before: now }, entry, random, now)
    return row >= 0 && this.cost(row, entry, now) <= most ? row : -1
  }

  /** Rows with a free slot that a request may use. */
  #freeFor(entry: QueueEntry): readonly number[] {
    const rows = this.freeRows()
    return this.#needsCheck(entry) ? rows.filter((row) => this.#mayUse(row, entry, tiers.never)) : rows
  }

  /** Whether a slot of a row is beyond the reserve, and no other model of the node would be slowed down. */
  #isSpare(row: number, others: number): boolean {
    const runner = this.runners[row]
    if (!runner) return false
    return !runner.hasBusyNeighbours && this.#hasSpare(this.costTerms(row).freeSlots, runner.slots, others)
  }

  /** Whether more slots are free than are reserved for others with such a demand: one at least, if there are two slots. */
  #hasSpare(free: number, slots: number, others: number): boolean {
    const { reserve } = this.context.parameters.reservation
    return free > Math.min(reserve * slots, Math.max(1, others * slots))
  }

  #cheapestOf(upTo: Tier, entry: QueueEntry, random: Random, now: number): number {
    const best = this.#scan(this.#choiceOf(upTo, entry), entry, random, now)
    const least = best < 0 ? Number.POSITIVE_INFINITY : this.cost(best, entry, now)
    // Postponed loads that might cost less, or about the same, are computed first.
    const isDue = this.computeLoads(least * (1 + this.context.parameters.cost.tie), now)
    return isDue ? this.#scan(this.#choiceOf(upTo, entry), entry, random, now) : best
  }

  #choiceOf(upTo: Tier, entry: QueueEntry): Choice {
    const isChecked = upTo !== tiers.never || this.#needsCheck(entry)
    return { rows: this.#everyRow, upTo: isChecked ? upTo : null, before: Number.POSITIVE_INFINITY }
  }

  /** Whether there may be rows that a request may not use. */
  #needsCheck({ isPicky }: QueueEntry): boolean {
    return isPicky || this.#isTiered || this.lastResorts > 0
  }

  #scan({ rows, upTo, before }: Choice, entry: QueueEntry, random: Random, now: number): number {
    const { tie } = this.context.parameters.cost
    let best = -1
    // Infinity and NaN are no costs: a row with them is not chosen.
    let least = 1e300
    let latest = before
    let equals = 0
    for (const row of rows) {
      // Most rows end here: their wait alone costs more.
      if (!(this.start(row) < latest) || !this.#mayUse(row, entry, upTo)) continue
      const cost = this.cost(row, entry, now)
      if (!(cost <= least * (1 + tie))) continue
      const lead =
        cost < least * (1 - tie) ? 1 : this.costTerms(row).freeSlots - this.costTerms(best).freeSlots
      least = Math.min(least, cost)
      latest = now + least * (1 + tie)
      if (lead < 0) continue
      equals = lead > 0 ? 1 : equals + 1
      if (random() * equals < 1) best = row
    }
    return best
  }

  #mayUse(row: number, entry: QueueEntry, upTo: Tier | null): boolean {
    if (upTo === null) return true
    return this.admits(row, entry) && this.#tierOf(row) <= upTo && this.mayMakeRoom(row, entry)
  }

  /** Whether a request may go to the node of a row. */
  admits(row: number, entry: QueueEntry): boolean {
    if (!this.#suits(row, entry)) return false
    const tier = this.#tierOf(row)
    return tier <= tiers.slow || tier <= this.#worstFor(entry)
  }

  /** Whether this instance may make room for a row, if the row needs room. */
  mayMakeRoom(row: number, entry: QueueEntry): boolean {
    if (this.lastResorts === 0 || !this.costTerms(row).eviction?.isLastResort) return true
    return !this.#hasRunner(entry)
  }

  /** Whether the model is in memory, or being loaded by a load that does not hang, on a node that the request may use. */
  #hasRunner(entry: QueueEntry): boolean {
    if (this.#lastAsked?.entry === entry) return this.#lastAsked.hasRunner
    const hasRunner = this.runners.some(
      (runner, row) =>
        (runner.residence !== null || this.#isComing(runner, row)) &&
        !runner.isVictim &&
        this.admits(row, entry),
    )
    this.#lastAsked = { entry, hasRunner }
    return hasRunner
  }

  /** Whether the runner is being loaded, and the load does not seem to hang. */
  #isComing(runner: Runner, row: number): boolean {
    const { swap } = runner.node
    if (swap?.runner !== runner) return false
    const { hangS } = this.context.parameters.swaps
    return (
      swap.requestedAt === null ||
      this.costTerms(row).at < swap.requestedAt + Math.max(hangS, 3 * runner.loadS)
    )
  }

  #tierOf(row: number): Tier {
    return this.#tiers[row] ?? tiers.well
  }

  /**
   * Whether breakers and advice exclude more than half of a request's nodes. Then the requests may be bad, or the leader may
   * be cut off from the nodes: an instance that obeyed every breaker and all advice would have no node left. A node that
   * asked for a pause is healthy.
   */
  isPanic(entry: QueueEntry): boolean {
    return this.#worstFor(entry) >= tiers.last
  }

  /** The worst tier that a request may use. */
  #worstFor(entry: QueueEntry): Tier {
    const known = this.#worst.get(entry)
    if (known !== undefined) return known
    let [fit, open, frozen, refused] = [0, 0, 0, 0]
    for (const [row, { barrier }] of this.runners.entries()) {
      if (!this.#suits(row, entry)) continue
      fit++
      const tier = this.#tierOf(row)
      if (tier <= tiers.slow && barrier !== 'trial') open++
      if (tier === tiers.frozen) frozen++
      if (tier === tiers.never) refused++
    }
    const isFrozen = frozen > 0 && frozen + refused === fit && entry.request.tried.size === 0
    const worst = isFrozen ? tiers.frozen : 2 * open < fit ? tiers.last : tiers.slow
    this.#worst.set(entry, worst)
    return worst
  }

  #suits(row: number, { isPicky, request }: QueueEntry): boolean {
    if (!isPicky) return true
    const node = this.runners[row]?.node
    return (
      node !== undefined && !request.tried.has(node.name) && matchesLabels(request.labels, node.facts.labels)
    )
  }

  /** Whether a request may start now. No row becomes free during a pass. */
  get isOpen(): boolean {
    return this.allFree > 0 || !this.context.parameters.uses.lateBinding
  }

  /** Whether a request has any place, now or later. */
  admitsAnywhere(entry: QueueEntry): boolean {
    return this.runners.some((_, row) => this.admits(row, entry))
  }

  /**
   * How fast requests for the variant are completed on average, as of the last tick. It converts the length of the queue to
   * seconds, where placing every request would take too long.
   */
  flow(now: number): Flow {
    if (!this.#flow || now - this.#flow.at >= this.context.parameters.queue.tickS)
      this.#flow = { at: now, flow: flowOf(this, this.context.learning) }
    return this.#flow.flow
  }

  /** Seconds of the whole fleet per token that a tenant is charged (capacity.ts). */
  fleetPerToken(now: number): number {
    if (!this.#capacity || now - this.#capacity.at >= capacityS)
      this.#capacity = { at: now, perToken: fleetPerToken(this.runners, this.context) }
    return this.#capacity.perToken
  }
}

function tierOf({ barrier, node }: Runner): Tier {
  if (barrier === 'refused') return tiers.never
  if (barrier === 'frozen') return tiers.frozen
  const { advice } = node.facts
  if (barrier === 'ejected' || advice === 'down') return tiers.last
  return advice === 'slow' ? tiers.slow : tiers.well
}
