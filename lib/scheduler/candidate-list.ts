import { matchesLabels } from '../fleet/schema.ts'
import type { Dice } from '../shared/loop.ts'
import { fleetPerToken } from './capacity.ts'
import { type Flow, flowOf } from './flow.ts'
import type { PassageBarrier } from './gate.ts'
import type { Surroundings } from './predicted-end.ts'
import type { Runner } from './runner.ts'
import { earliest, loadS, type Terms, workOut } from './terms.ts'
import type { Waiting } from './waiting.ts'

const columns = 5

/** The fleet's capacity is asked for with every request, and changes slowly: it is worked out once in so many seconds. */
const capacityS = 30

/** Which rows a request may not have now. */
interface Choice {
  /** Those with this barrier. */
  readonly spared: PassageBarrier | null
  /** What the others ask for: it may not have those where it would take from them; null: it may. */
  readonly others: number | null
  /** Those that are not free by then, in monotonic seconds. */
  readonly before: number
}

const anywhere: Choice = { spared: null, others: null, before: Number.POSITIVE_INFINITY }

/**
 * Every place of one variant, as columns of numbers: the inner loop of the scheduler runs over them, 48 times for each
 * pass over the queue. A row is written anew when something happened on its node, and once a tick since time changes it
 * too. What a load would cost takes most of that work, and is worked out only where one might be worth it.
 */
export class CandidateList {
  readonly runners: readonly Runner[]
  readonly #around: Surroundings
  readonly #terms: Terms[] = []
  /** Monotonic seconds; moves with what a pass plans. */
  readonly #start: Float64Array
  /** The rest of the cost, `columns` numbers a row: fixed, per prompt token, output token, token in common, tokens in common. */
  readonly #rates: Float64Array
  /** Slots of runners in memory, and those of them that are free: by row, and in all. */
  readonly #slots: Uint16Array
  readonly #free: Uint16Array
  #allSlots = 0
  #allFree = 0
  /** Rows that something happened to, each once. */
  readonly #dirty: number[] = []
  readonly #isDirty: Uint8Array
  /** Rows that something happened to and that need a load, not written anew so far. */
  readonly #postponed = new Set<number>()
  /** Seconds that each of their loads takes at least. */
  #leastLoadS = Number.POSITIVE_INFINITY
  #turn = 0
  #turnedAt: number
  #flow: { readonly at: number; readonly flow: Flow } | null = null
  #capacity: { readonly at: number; readonly perToken: number } | null = null
  /** Whether breakers keep requests from any of its nodes. */
  readonly #isGuarded: boolean
  readonly #panics = new WeakMap<Waiting, boolean>()

  constructor(runners: readonly Runner[], around: Surroundings, now: number) {
    this.runners = runners
    this.#around = around
    this.#isGuarded = runners.some(({ barrier }) => barrier === 'ejected' || barrier === 'refused')
    this.#start = new Float64Array(runners.length)
    this.#rates = new Float64Array(columns * runners.length)
    this.#slots = new Uint16Array(runners.length)
    this.#free = new Uint16Array(runners.length)
    this.#isDirty = new Uint8Array(runners.length)
    this.#turnedAt = now
    for (const [row, runner] of runners.entries()) {
      runner.node.followers.push(() => this.#soil(row))
      this.#write(row, now, runner.terms)
    }
  }

  /** Brings the rows up to date. Before everything else at a new time, and after each change. */
  refresh(now: number): void {
    for (let row = this.#dirty.pop(); row !== undefined; row = this.#dirty.pop()) this.#renew(row, now)
    const { length } = this.runners
    const { tickS } = this.#around.rules.queue
    const due = Math.min(length, Math.floor(((now - this.#turnedAt) / tickS) * length))
    if (due === 0) return
    this.#turnedAt = now
    for (let nth = 0; nth < due; nth++) {
      this.#turn = (this.#turn + 1) % length
      this.#write(this.#turn, now, null)
    }
  }

  /** Writes the postponed rows if a load might cost as little as that many seconds. Whether there were any. */
  workOutLoads(cost: number, now: number): boolean {
    if (this.#postponed.size === 0 || this.#leastLoadS > cost) return false
    for (const row of this.#postponed) this.#write(row, now, this.#terms[row] ?? null)
    this.#leastLoadS = Number.POSITIVE_INFINITY
    return true
  }

  #soil(row: number): void {
    if (this.#isDirty[row] === 1) return
    this.#isDirty[row] = 1
    this.#dirty.push(row)
  }

  #renew(row: number, now: number): void {
    this.#isDirty[row] = 0
    const runner = this.runners[row]
    if (!runner) return
    if (!needsLoad(runner) || !this.#around.rules.uses.residency) {
      this.#write(row, now, this.#terms[row] ?? null)
      return
    }
    this.#postponed.add(row)
    this.#count(row, 0, 0)
    this.#leastLoadS = Math.min(this.#leastLoadS, loadS(runner))
    this.#start[row] = Number.POSITIVE_INFINITY
  }

  /** Of a row of `runners`. */
  terms(row: number): Terms {
    const terms = this.#terms[row]
    if (!terms) throw new RangeError(`row ${row}`)
    return terms
  }

  /** When a row has a slot for one more request; Infinity when nobody can tell. */
  start(row: number): number {
    return this.#start[row] ?? Number.POSITIVE_INFINITY
  }

  /** Seconds that a request costs there. */
  cost(row: number, waiting: Waiting, now: number): number {
    const { work, hits, output } = waiting
    const rates = this.#rates
    const first = columns * row
    const runner = hits.size > 0 ? this.runners[row] : undefined
    const prompt = runner ? promptOn(runner, waiting) : work.promptTokens
    return (
      Math.max(0, this.start(row) - now) +
      (rates[first] ?? 0) +
      prompt * (rates[first + 1] ?? 0) +
      output * (rates[first + 2] ?? 0) +
      Math.min(output, rates[first + 4] ?? 0) * (rates[first + 3] ?? 0)
    )
  }

  /**
   * The row where a request costs least, or -1 when there is none that anybody knows the start of. Of those that cost about
   * the same the one with most free slots, then any. In panic those with bad answers are used as well, but only once no
   * slot of another is free.
   */
  cheapest(waiting: Waiting, dice: Dice, now: number): number {
    if (!this.#isGuarded || !this.isPanic(waiting)) return this.#cheapestOf(null, waiting, dice, now)
    const well = this.#cheapestOf('ejected', waiting, dice, now)
    if (well >= 0 && this.terms(well).state === 'ready') return well
    return this.#cheapestOf(null, waiting, dice, now)
  }

  /**
   * The row where a request of a tenant that is held back costs least, or -1 when there is none: more slots are free than the
   * others' part, there and in all, and no other model of the node is slowed down.
   *
   * @param others what they ask for, as a share of what the fleet can serve.
   */
  cheapestModest(waiting: Waiting, others: number, dice: Dice, now: number): number {
    return this.#hasSpare(this.#allFree, this.#allSlots, others)
      ? this.#scan({ spared: null, others, before: now }, waiting, dice, now)
      : -1
  }

  /** Whether more slots are free than are kept for others who ask for such a share of the fleet: one at least, if there are two. */
  #hasSpare(free: number, slots: number, others: number): boolean {
    const { reserve } = this.#around.rules.restraint
    return free > Math.min(reserve * slots, Math.max(1, others * slots))
  }

  #cheapestOf(spared: PassageBarrier | null, waiting: Waiting, dice: Dice, now: number): number {
    const choice = spared === null ? anywhere : { ...anywhere, spared }
    const best = this.#scan(choice, waiting, dice, now)
    const least = best < 0 ? Number.POSITIVE_INFINITY : this.cost(best, waiting, now)
    // Of loads that were put off none may cost less, nor about the same.
    const isDue = this.workOutLoads(least * (1 + this.#around.rules.cost.tie), now)
    return isDue ? this.#scan(choice, waiting, dice, now) : best
  }

  #scan(choice: Choice, waiting: Waiting, dice: Dice, now: number): number {
    const { tie } = this.#around.rules.cost
    const start = this.#start
    let best = -1
    // Whoever costs more than any sum of seconds, or nothing that is a number, has no place.
    let least = 1e300
    let latest = choice.before
    let equals = 0
    for (let row = 0; row < start.length; row++) {
      // Most are passed over here: the wait alone costs more.
      if (!((start[row] ?? 0) < latest) || !this.#mayUse(row, waiting, choice)) continue
      const cost = this.cost(row, waiting, now)
      if (!(cost <= least * (1 + tie))) continue
      const lead = cost < least * (1 - tie) ? 1 : this.terms(row).freeSlots - this.terms(best).freeSlots
      least = Math.min(least, cost)
      latest = now + least * (1 + tie)
      if (lead < 0) continue
      equals = lead > 0 ? 1 : equals + 1
      if (dice() * equals < 1) best = row
    }
    return best
  }

  #mayUse(row: number, waiting: Waiting, { spared, others }: Choice): boolean {
    if (!this.admits(row, waiting)) return false
    const runner = this.runners[row]
    if (spared !== null && runner?.barrier === spared) return false
    if (others === null || !runner) return true
    const { state, freeSlots } = this.terms(row)
    return state === 'ready' && !runner.hasBusyNeighbours && this.#hasSpare(freeSlots, runner.slots, others)
  }

  /** Whether a request may go to a row's node. */
  admits(row: number, waiting: Waiting): boolean {
    if (!this.#suits(row, waiting)) return false
    if (!this.#isGuarded) return true
    const barrier = this.runners[row]?.barrier
    return barrier !== 'refused' && (barrier !== 'ejected' || this.isPanic(waiting))
  }

  /**
   * Whether breakers keep a request from more than half of its nodes: then it may be the requests that are bad, and who
   * believed every breaker would have nobody left (sheet reliability-security.md P7). A node that asked for a pause is well.
   */
  isPanic(waiting: Waiting): boolean {
    const known = this.#panics.get(waiting)
    if (known !== undefined) return known
    let [fit, open] = [0, 0]
    for (const [row, { barrier }] of this.runners.entries()) {
      if (!this.#suits(row, waiting)) continue
      fit++
      if (barrier === null || barrier === 'busy') open++
    }
    const isPanic = 2 * open < fit
    this.#panics.set(waiting, isPanic)
    return isPanic
  }

  #suits(row: number, { isPicky, work }: Waiting): boolean {
    if (!isPicky) return true
    const node = this.runners[row]?.node
    return node !== undefined && !work.tried.has(node.name) && matchesLabels(work.nodes, node.facts.labels)
  }

  /** Whether there is any place for a request, now or later. */
  admitsAnywhere(waiting: Waiting): boolean {
    return this.runners.some((_, row) => this.admits(row, waiting))
  }

  /** Plans a request for the slot that is free first: whoever comes next in this pass finds it taken until then. */
  plan(row: number, seconds: number): void {
    const runner = this.runners[row]
    if (!runner) return
    const start = this.start(row)
    runner.planned ??= [...this.terms(row).slotEnds]
    runner.planned[runner.planned.indexOf(start)] = start + seconds
    this.#start[row] = earliest(runner.planned)
  }

  /** Forgets what a pass has planned. */
  unplan(row: number): void {
    const runner = this.runners[row]
    if (!runner) return
    runner.planned = null
    this.#start[row] = this.terms(row).start
  }

  /**
   * How fast its requests are completed, as they are on average. It tells how long a line is in seconds, where placing
   * everybody in it would take too long. As of the last tick.
   */
  flow(now: number): Flow {
    if (!this.#flow || now - this.#flow.at >= this.#around.rules.queue.tickS)
      this.#flow = { at: now, flow: flowOf(this, this.#around.learning) }
    return this.#flow.flow
  }

  /** Seconds of the whole fleet per token that a tenant is charged (see capacity.ts). */
  fleetPerToken(now: number): number {
    if (!this.#capacity || now - this.#capacity.at >= capacityS)
      this.#capacity = { at: now, perToken: fleetPerToken(this.runners, this.#around) }
    return this.#capacity.perToken
  }

  #count(row: number, slots: number, free: number): void {
    this.#allSlots += slots - (this.#slots[row] ?? 0)
    this.#allFree += free - (this.#free[row] ?? 0)
    this.#slots[row] = slots
    this.#free[row] = free
  }

  /** @param last the terms of last time, which hold while nothing happened on the node; null: time has passed. */
  #write(row: number, now: number, last: Terms | null): void {
    const runner = this.runners[row]
    if (!runner) return
    this.#postponed.delete(row)
    const { tickS } = this.#around.rules.queue
    const doHold = last?.stamp === runner.node.stamp && now < last.at + tickS
    const terms = doHold ? last : workOut(runner, this.#around, now)
    this.#start[row] = runner.planned ? earliest(runner.planned) : terms.start
    if (terms === this.#terms[row]) return
    runner.terms = terms
    this.#terms[row] = terms
    if (terms.state === 'ready' || terms.state === 'full')
      this.#count(row, runner.slots, Math.max(0, terms.freeSlots))
    else this.#count(row, 0, 0)
    const { fixed, perPromptToken, perOutputToken, perCommonToken, othersWrite } = terms
    const first = columns * row
    this.#rates[first] = fixed
    this.#rates[first + 1] = perPromptToken
    this.#rates[first + 2] = perOutputToken
    this.#rates[first + 3] = perCommonToken
    this.#rates[first + 4] = othersWrite
  }
}

/** Whether it is neither in memory nor on its way there. */
function needsLoad(runner: Runner): boolean {
  return runner.residence === null && runner.node.swap?.runner !== runner
}

/** Prompt tokens that a request has to have read on a runner. The last one is never cached. */
export function promptOn(runner: Runner, { work, hits }: Waiting): number {
  const promised = hits.size === 0 ? 0 : (hits.get(runner) ?? 0)
  if (promised === 0) return work.promptTokens
  return Math.max(1, work.promptTokens - promised * runner.pace.cachedShare)
}
