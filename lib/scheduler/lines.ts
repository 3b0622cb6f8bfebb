import { Roster } from '../shared/roster.ts'
import type { Work } from './events.ts'
import { type Group, Groups } from './groups.ts'
import { Lateness } from './lateness.ts'
import type { Parameters } from './parameters.ts'
import type { Tenants } from './tenants.ts'
import { type Standing, standingOf, type Waiting } from './waiting.ts'

interface Place {
  readonly waiting: Waiting
  readonly tenant: string
  readonly group: Group
  standing: Standing
}

/** How far a line has been taken, as though those had started. */
interface Head {
  readonly line: readonly Place[]
  at: number
  counter: number
  readonly weight: number
}

/** What waits, in order: strict ranks, tenants by what they were served, latest start inside a tenant. */
export class Lines {
  readonly #rules: Parameters
  readonly #tenants: Tenants
  /** By request id, in order of arrival. */
  readonly #places = new Roster<string, Place>()
  /** By rank and tenant; sorted by key, equals by arrival. No line is empty. */
  readonly #ranks: Roster<string, Place[]>[] = []
  readonly #groups = new Groups()
  readonly #byModel = new Roster<string, number>()
  /** By class and tenant. */
  readonly #drainS = new Roster<string, number>()
  readonly #lateness: Lateness
  #newcomers: Waiting[] = []
  /** When the next standing changes. */
  #changesAt = Number.POSITIVE_INFINITY

  constructor(rules: Parameters, tenants: Tenants) {
    this.#rules = rules
    this.#tenants = tenants
    this.#lateness = new Lateness(rules.admission.evidence)
  }

  get length(): number {
    return this.#places.size
  }

  /** Who has waited longest, counted from when it came into the queue. */
  get oldest(): Waiting | undefined {
    return this.#places.values().next().value?.waiting
  }

  /** When somebody ages or becomes late, in monotonic seconds. */
  get changesAt(): number {
    return this.#changesAt
  }

  get(id: string): Waiting | undefined {
    return this.#places.get(id)?.waiting
  }

  /** Everybody, in no promised order. */
  *all(): Iterable<Waiting> {
    for (const { waiting } of this.#places.values()) yield waiting
  }

  /** How urgent a request is by now; 0 goes first. */
  rankOf({ work, rule }: Waiting): number {
    return this.#places.get(work.id)?.standing.rank ?? rule.rank
  }

  /** What waits, by the places that it may have. */
  get groups(): Iterable<Group> {
    return this.#groups.all()
  }

  /** Requests that wait for a model. */
  ofModel(model: string): number {
    return this.#byModel.get(model) ?? 0
  }

  /** Requests for the same model that a request would find before it: as urgent, or more. */
  aheadOf({ work, rule }: Waiting): number {
    let ahead = 0
    for (const { standing, waiting } of this.#places.values())
      if (standing.rank <= rule.rank && waiting.work.model === work.model && waiting.work.id !== work.id)
        ahead++
    return ahead
  }

  /** Seconds of the fleet's work that a tenant has waiting in a class. */
  drainS(work: Work): number {
    return this.#drainS.get(lineOf(work)) ?? 0
  }

  /**
   * Who goes when too many wait: in the least urgent rank the last of the longest line, so that neither a lower class nor one
   * tenant keeps the others out. Whoever comes from a failed node was let in before.
   */
  get last(): Waiting | undefined {
    let longest: readonly Place[] = []
    for (const line of this.#ranks.findLast((lines) => lines && lines.size > 0)?.values() ?? [])
      if (line.length >= longest.length) longest = line
    return longest.findLast(({ waiting }) => waiting.work.tried.size === 0)?.waiting
  }

  /** Whether a tenant's requests are late all the time: then waiting only adds delay. */
  isStanding(tenant: string): boolean {
    return this.#lateness.isStanding(this.#tenants.account(tenant))
  }

  /** @param isNew it is still to be decided whether it may wait. */
  add(waiting: Waiting, isNew: boolean, now: number): void {
    const { work } = waiting
    const { id, model, tenant } = work
    const account = this.#tenants.account(tenant)
    this.#tenants.joined(account)
    if (isNew) this.#newcomers.push(waiting)
    add(this.#byModel, model, 1)
    add(this.#drainS, lineOf(work), waiting.drainS)
    const group = this.#groups.join(work)
    const place = { waiting, tenant: account, group, standing: standingOf(waiting, this.#rules, now) }
    this.#places.set(id, place)
    this.#put(place)
  }

  /** Whether it was still waiting. */
  remove(id: string): boolean {
    const place = this.#places.get(id)
    if (!place) return false
    this.#places.delete(id)
    this.#takeOut(place)
    const { work, drainS } = place.waiting
    this.#tenants.left(place.tenant)
    this.#groups.leave(place.group)
    add(this.#byModel, work.model, -1)
    add(this.#drainS, lineOf(work), -drainS)
    return true
  }

  /** It has its slot. */
  started(id: string): void {
    this.remove(id)
    this.#lateness.started()
  }

  /** Who came since this was asked last and still waits, the last one first. */
  takeNewcomers(): Waiting[] {
    const newcomers = this.#newcomers.filter((waiting) => this.get(waiting.work.id) === waiting)
    this.#newcomers = []
    return newcomers.reverse()
  }

  /** Lets ageing and lateness count up to now. */
  age(now: number): void {
    if (now < this.#changesAt) return
    this.#changesAt = Number.POSITIVE_INFINITY
    for (const place of this.#places.values()) {
      const { until } = place.standing
      if (now < until) {
        this.#changesAt = Math.min(this.#changesAt, until)
        continue
      }
      this.#takeOut(place)
      place.standing = standingOf(place.waiting, this.#rules, now)
      this.#put(place)
    }
  }

  /**
   * Yields the queue in order: a tenant is charged for each request as though it had started already. The request that was
   * yielded last may be removed; nothing else may change meanwhile.
   *
   * @param isOver groups that are passed over from then on, and not charged for.
   */
  *inOrder(
    isOver: (group: Group) => boolean = () => false,
  ): Generator<{ readonly waiting: Waiting; readonly group: Group }, void, void> {
    for (const lines of this.#ranks) {
      const heads = lines ? this.#headsOf(lines) : []
      while (heads.length > 0) {
        const least = leastServed(heads)
        const head = heads[least]
        const next = head && nextOf(head, isOver)
        if (!head || !next) {
          heads.splice(least, 1)
          continue
        }
        head.counter += charge(next.waiting, this.#rules) / head.weight
        yield next
        // One that was removed has left its line, so that the line's next stands there.
        if (head.line[head.at] === next) head.at++
      }
    }
  }

  #headsOf(lines: Iterable<readonly [string, readonly Place[]]>): Head[] {
    const heads: Head[] = []
    for (const [tenant, line] of lines) {
      const counter = this.#tenants.counter(tenant)
      heads.push({ line, at: 0, counter, weight: this.#tenants.weight(tenant) })
    }
    return heads
  }

  #put(place: Place): void {
    const { rank, isLate, until } = place.standing
    if (isLate) this.#lateness.came(place.tenant)
    this.#changesAt = Math.min(this.#changesAt, until)
    this.#ranks[rank] ??= new Roster<string, Place[]>()
    const lines = this.#ranks[rank]
    const line = lines.get(place.tenant)
    if (line) line.splice(indexIn(line, place), 0, place)
    else lines.set(place.tenant, [place])
  }

  #takeOut(place: Place): void {
    if (place.standing.isLate) this.#lateness.went(place.tenant)
    const lines = this.#ranks[place.standing.rank]
    const line = lines?.get(place.tenant)
    const at = line?.indexOf(place) ?? -1
    if (!lines || !line || at < 0) return
    if (line.length > 1) line.splice(at, 1)
    else lines.delete(place.tenant)
  }
}

/** What a tenant is charged for a request before it ran: prompt, and output by its weight. */
export function charge({ work, output }: Pick<Waiting, 'work' | 'output'>, { queue }: Parameters): number {
  return work.promptTokens + queue.outputWeight * output
}

/** Skips those of groups that are over. */
function nextOf(head: Head, isOver: (group: Group) => boolean): Place | undefined {
  let next = head.line[head.at]
  while (next && isOver(next.group)) next = head.line[++head.at]
  return next
}

function lineOf({ class: named, tenant }: Work): string {
  return `${named}\n${tenant}`
}

function leastServed(heads: readonly { readonly counter: number }[]): number {
  let least = 0
  for (let at = 1; at < heads.length; at++)
    if ((heads[at]?.counter ?? 0) < (heads[least]?.counter ?? 0)) least = at
  return least
}

/** Where a place belongs: after all that are no later. */
function indexIn(line: readonly Place[], place: Place): number {
  let [low, high] = [0, line.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const other = line[middle]
    if (other && isBefore(place, other)) high = middle
    else low = middle + 1
  }
  return low
}

function isBefore(a: Place, b: Place): boolean {
  if (a.standing.key !== b.standing.key) return a.standing.key < b.standing.key
  return a.waiting.work.arrivedAt < b.waiting.work.arrivedAt
}

function add(sums: Roster<string, number>, key: string, change: number): void {
  const sum = (sums.get(key) ?? 0) + change
  // Sums of seconds leave a rounding behind.
  if (Math.abs(sum) < 1e-9) sums.delete(key)
  else sums.set(key, sum)
}
