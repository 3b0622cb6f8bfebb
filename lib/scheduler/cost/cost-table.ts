import type { Runner } from '../fleet/runner.ts'
import { promptOn, type QueueEntry } from '../queue-entry.ts'
import type { CostContext } from './cost-context.ts'
import { type CostTerms, computeTerms, earliest } from './cost-terms.ts'

const columns = 5

/** The last costs of one runner. All lists with the runner share them. */
export interface RunnerCost {
  /** Valid for a tick while nothing happens on the node; null: never computed. */
  terms: CostTerms | null
  /** When each slot will be free, including what the current pass has planned; null outside of a pass. */
  planned: number[] | null
}

/** The rows of a cost table. */
export interface CostRows {
  readonly runners: readonly Runner[]
  /** By the same index as `runners`. */
  readonly costs: readonly RunnerCost[]
  readonly context: CostContext
}

/**
 * Every runner of one variant, as columns of numbers: the inner loop of the scheduler runs over them, up to 48 times in a
 * pass. A row is computed again when something happened on its node, and once a tick, since time changes it too. The cost
 * of a load is the most expensive part, so it is computed only where a load might be worth it.
 */
export class CostTable {
  readonly runners: readonly Runner[]
  protected readonly context: CostContext
  readonly #costs: readonly RunnerCost[]
  readonly #terms: CostTerms[] = []
  /** Monotonic seconds; a pass moves it with each plan. */
  readonly #start: Float64Array
  /** The rest of the cost, `columns` numbers a row: fixed, per prompt token, per output token, per common token, common tokens. */
  readonly #rates: Float64Array
  /** Slots of runners in memory, and free slots: by row, and in all. */
  readonly #slots: Uint16Array
  readonly #free: Uint16Array
  protected allSlots = 0
  protected allFree = 0
  /** Rows with a free slot, in order; null: a row gained its first free slot or lost its last one since. */
  #freeRows: readonly number[] | null = null
  /** Rows that need an eviction which only a request without another runner may cause. */
  protected lastResorts = 0
  /** Rows whose nodes have changed, each once. */
  readonly #dirty: number[] = []
  readonly #isDirty: Uint8Array
  /** Changed rows that need a load, and whose costs are not computed yet. */
  readonly #postponed = new Set<number>()
  /** The shortest of their loads, in seconds. */
  #leastLoadS = Number.POSITIVE_INFINITY
  #turn = 0
  #turnedAt: number
  #freshAt = Number.NEGATIVE_INFINITY

  constructor({ runners, costs, context }: CostRows, now: number) {
    this.runners = runners
    this.context = context
    this.#costs = costs
    this.#start = new Float64Array(runners.length)
    this.#rates = new Float64Array(columns * runners.length)
    this.#slots = new Uint16Array(runners.length)
    this.#free = new Uint16Array(runners.length)
    this.#isDirty = new Uint8Array(runners.length)
    this.#turnedAt = now
    for (const [row, runner] of runners.entries()) {
      runner.node.follow(() => this.#markDirty(row))
      this.#write(row, now, costs[row]?.terms ?? null)
    }
  }

  /** Brings the rows up to date. Call it first at a new time, and after each change. */
  refresh(now: number): void {
    // Every request of a pass calls this, so the usual case must be cheap.
    if (now !== this.#freshAt || this.#dirty.length > 0) this.renew(now)
  }

  protected renew(now: number): void {
    this.#freshAt = now
    for (let row = this.#dirty.pop(); row !== undefined; row = this.#dirty.pop()) this.#renewRow(row, now)
    const { length } = this.runners
    const { tickS } = this.context.parameters.queue
    const due = Math.min(length, Math.floor(((now - this.#turnedAt) / tickS) * length))
    if (due === 0) return
    this.#turnedAt = now
    for (let nth = 0; nth < due; nth++) {
      this.#turn = (this.#turn + 1) % length
      this.#write(this.#turn, now, null)
    }
  }

  /** Computes the postponed rows if a load might cost at most so many seconds. Returns whether there were any. */
  computeLoads(cost: number, now: number): boolean {
    if (this.#postponed.size === 0 || this.#leastLoadS > cost) return false
    for (const row of this.#postponed) this.#write(row, now, this.#terms[row] ?? null)
    this.#leastLoadS = Number.POSITIVE_INFINITY
    return true
  }

  #markDirty(row: number): void {
    if (this.#isDirty[row] === 1) return
    this.#isDirty[row] = 1
    this.#dirty.push(row)
  }

  #renewRow(row: number, now: number): void {
    this.#isDirty[row] = 0
    const runner = this.runners[row]
    if (!runner) return
    if (!needsLoad(runner) || !this.context.parameters.uses.residency) {
      this.#write(row, now, this.#terms[row] ?? null)
      return
    }
    this.#postponed.add(row)
    this.#count(row, 0, 0)
    this.#leastLoadS = Math.min(this.#leastLoadS, runner.loadS)
    this.#start[row] = Number.POSITIVE_INFINITY
  }

  /** Rows with a free slot, in order. */
  protected freeRows(): readonly number[] {
    if (this.#freeRows) return this.#freeRows
    const rows: number[] = []
    for (let row = 0; row < this.#free.length; row++) if (this.#free[row] !== 0) rows.push(row)
    this.#freeRows = rows
    return rows
  }

  /** The cost terms of a row. */
  costTerms(row: number): CostTerms {
    const terms = this.#terms[row]
    if (!terms) throw new RangeError(`row ${row}`)
    return terms
  }

  /** When a row has a slot for one more request; Infinity: unknown. */
  start(row: number): number {
    return this.#start[row] ?? Number.POSITIVE_INFINITY
  }

  /** Cost of a request in a row, in seconds. */
  cost(row: number, entry: QueueEntry, now: number): number {
    const { request, cachedTokens, output } = entry
    const rates = this.#rates
    const first = columns * row
    const runner = cachedTokens.size > 0 ? this.runners[row] : undefined
    const prompt = runner ? promptOn(runner, entry) : request.promptTokens
    return (
      Math.max(0, this.start(row) - now) +
      (rates[first] ?? 0) +
      prompt * (rates[first + 1] ?? 0) +
      output * (rates[first + 2] ?? 0) +
      Math.min(output, rates[first + 4] ?? 0) * (rates[first + 3] ?? 0)
    )
  }

  /** Plans a request for the first free slot: the rest of the pass finds the slot taken until the request ends. */
  plan(row: number, seconds: number): void {
    const cost = this.#costs[row]
    if (!cost) return
    const start = this.start(row)
    cost.planned ??= [...this.costTerms(row).slotEnds]
    cost.planned[cost.planned.indexOf(start)] = start + seconds
    this.#start[row] = earliest(cost.planned)
  }

  /** Forgets the plans of a pass for a row. */
  unplan(row: number): void {
    const cost = this.#costs[row]
    if (!cost) return
    cost.planned = null
    this.#start[row] = this.costTerms(row).start
  }

  #count(row: number, slots: number, free: number): void {
    this.allSlots += slots - (this.#slots[row] ?? 0)
    const before = this.#free[row] ?? 0
    this.allFree += free - before
    if (before > 0 !== free > 0) this.#freeRows = null
    this.#slots[row] = slots
    this.#free[row] = free
  }

  /** @param last the last terms, which are valid while nothing happens on the node; null: compute them again. */
  #write(row: number, now: number, last: CostTerms | null): void {
    const runner = this.runners[row]
    const cost = this.#costs[row]
    if (!runner || !cost) return
    this.#postponed.delete(row)
    const { tickS } = this.context.parameters.queue
    const doHold = last?.stamp === runner.node.stamp && now < last.at + tickS
    const terms = doHold ? last : computeTerms(runner, this.context, now)
    this.#start[row] = cost.planned ? earliest(cost.planned) : terms.start
    if (terms === this.#terms[row]) return
    cost.terms = terms
    this.lastResorts += lastResort(terms) - lastResort(this.#terms[row])
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

/** 1 for a row that counts as a last resort. */
function lastResort(terms: CostTerms | undefined): number {
  return terms?.eviction?.isLastResort ? 1 : 0
}

/** Whether the runner is neither in memory nor being loaded. */
function needsLoad(runner: Runner): boolean {
  return runner.residence === null && runner.node.swap?.runner !== runner
}
