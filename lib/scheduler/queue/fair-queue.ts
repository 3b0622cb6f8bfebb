import { ChurnMap } from '../../shared/churn-map.ts'
import type { SchedulingRequest } from '../events.ts'
import type { Parameters } from '../parameters.ts'
import { type QueueEntry, type QueuePriority, queuePriorityOf } from '../queue-entry.ts'
import { Backlog } from './backlog.ts'
import { type Group, Groups } from './groups.ts'
import { type Queued, type QueueHead, QueueOrder } from './queue-order.ts'
import type { Tenants } from './tenants.ts'

interface Place extends Queued {
  readonly tenant: string
  readonly own: Backlog
  standing: QueuePriority
}

/** What waits, in order: strict ranks, tenants by what they were served, latest start inside a tenant. */
export class FairQueue {
  readonly #rules: Parameters
  readonly #tenants: Tenants
  /** By request id, in order of arrival. */
  readonly #places = new ChurnMap<string, Place>()
  /** By rank and tenant; sorted by key, equals by arrival. No line is empty. */
  readonly #ranks: ChurnMap<string, Place[]>[] = []
  readonly #groups = new Groups()
  readonly #byModel = new ChurnMap<string, number>()
  /** By model, a few each. No backlog is empty. */
  readonly #backlogs = new ChurnMap<string, Backlog[]>()
  #newcomers: QueueEntry[] = []
  /** When the next standing changes. */
  #changesAt = Number.POSITIVE_INFINITY

  constructor(rules: Parameters, tenants: Tenants) {
    this.#rules = rules
    this.#tenants = tenants
  }

  get length(): number {
    return this.#places.size
  }

  /** Who has waited longest, counted from when it came into the queue. */
  get oldest(): QueueEntry | undefined {
    return this.#places.values().next().value?.waiting
  }

  /** When somebody ages or becomes late, in monotonic seconds. */
  get changesAt(): number {
    return this.#changesAt
  }

  get(id: string): QueueEntry | undefined {
    return this.#places.get(id)?.waiting
  }

  /** Everybody, in no promised order. */
  *all(): Iterable<QueueEntry> {
    for (const { waiting } of this.#places.values()) yield waiting
  }

  /** How urgent a request is by now; 0 goes first. */
  rankOf({ work, rule }: QueueEntry): number {
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
  aheadOf({ work, rule }: QueueEntry): number {
    let ahead = 0
    for (const { standing, waiting } of this.#places.values())
      if (standing.rank <= rule.rank && waiting.work.model === work.model && waiting.work.id !== work.id)
        ahead++
    return ahead
  }

  /** Seconds of the fleet's work that a tenant has waiting in a class for a model. */
  drainS(work: SchedulingRequest): number {
    return this.#backlogOf(work)?.drainS ?? 0
  }

  /**
   * The request that goes when too many wait: in the least urgent rank, of the tenant with most requests, of its model with
   * most requests the last. So neither a lower class nor one tenant nor one model keeps the others out. A request that comes
   * from a failed node was let in before.
   */
  get last(): QueueEntry | undefined {
    let longest: readonly Place[] = []
    for (const line of this.#ranks.findLast((lines) => lines && lines.size > 0)?.values() ?? [])
      if (line.length >= longest.length) longest = line
    const removable = longest.filter(({ waiting }) => waiting.work.tried.size === 0)
    const ofModel = Map.groupBy(removable, ({ waiting }) => waiting.work.model)
    let most: readonly Place[] = []
    for (const places of ofModel.values()) if (places.length >= most.length) most = places
    return most.at(-1)?.waiting
  }

  /** Whether a tenant's requests of a class for a model are late all the time: then waiting only adds delay. */
  isStanding(work: SchedulingRequest): boolean {
    return this.#backlogOf(work)?.isStanding ?? false
  }

  /** @param isNew it is still to be decided whether it may wait. */
  add(waiting: QueueEntry, isNew: boolean, now: number): void {
    const { work } = waiting
    const { id, model, tenant } = work
    const account = this.#tenants.account(tenant)
    this.#tenants.joined(account)
    if (isNew) this.#newcomers.push(waiting)
    add(this.#byModel, model, 1)
    const own = this.#backlogOf(work) ?? this.#newBacklog(work)
    own.join(waiting.drainS)
    const group = this.#groups.join(work)
    const place = {
      waiting,
      tenant: account,
      group,
      own,
      standing: queuePriorityOf(waiting, this.#rules, now),
    }
    this.#places.set(id, place)
    this.#put(place, now)
  }

  /** Whether it was still waiting. */
  remove(id: string, now: number): boolean {
    const place = this.#places.get(id)
    if (!place) return false
    this.#places.delete(id)
    this.#takeOut(place, now)
    const { work, drainS } = place.waiting
    this.#tenants.left(place.tenant)
    this.#groups.leave(place.group)
    add(this.#byModel, work.model, -1)
    place.own.leave(drainS)
    if (place.own.isEmpty) this.#dropBacklog(work.model, place.own)
    return true
  }

  /** It has its slot. */
  started({ id, model, arrivedAt }: SchedulingRequest, now: number): void {
    this.remove(id, now)
    for (const backlog of this.#backlogs.get(model) ?? []) backlog.started(arrivedAt)
  }

  /** Who came since this was asked last and still waits, the last one first. */
  takeNewcomers(): QueueEntry[] {
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
      this.#takeOut(place, now)
      place.standing = queuePriorityOf(place.waiting, this.#rules, now)
      this.#put(place, now)
    }
  }

  /** @param isOver groups that are passed over from then on, and not charged for. */
  inOrder(isOver: (group: Group) => boolean = () => false): QueueOrder {
    return new QueueOrder(this.#rules, this.#ranks.length, (rank) => this.#headsOf(rank), isOver)
  }

  #headsOf(rank: number): QueueHead[] {
    const heads: QueueHead[] = []
    for (const [tenant, line] of this.#ranks[rank] ?? []) {
      const counter = this.#tenants.counter(tenant)
      heads.push({ line, at: 0, counter, weight: this.#tenants.weight(tenant) })
    }
    return heads
  }

  #backlogOf({ model, class: named, tenant }: SchedulingRequest): Backlog | undefined {
    return this.#backlogs.get(model)?.find((each) => each.class === named && each.tenant === tenant)
  }

  #newBacklog({ model, class: named, tenant }: SchedulingRequest): Backlog {
    const backlog = new Backlog(named, tenant, this.#rules.admission.evidence)
    const ofModel = this.#backlogs.get(model)
    if (ofModel) ofModel.push(backlog)
    else this.#backlogs.set(model, [backlog])
    return backlog
  }

  #dropBacklog(model: string, backlog: Backlog): void {
    const ofModel = this.#backlogs.get(model) ?? []
    if (ofModel.length > 1) ofModel.splice(ofModel.indexOf(backlog), 1)
    else this.#backlogs.delete(model)
  }

  #put(place: Place, now: number): void {
    const { rank, isLate, until } = place.standing
    if (isLate) place.own.becameLate(now)
    this.#changesAt = Math.min(this.#changesAt, until)
    this.#ranks[rank] ??= new ChurnMap<string, Place[]>()
    const lines = this.#ranks[rank]
    const line = lines.get(place.tenant)
    if (line) line.splice(indexIn(line, place), 0, place)
    else lines.set(place.tenant, [place])
  }

  #takeOut(place: Place, now: number): void {
    if (place.standing.isLate) place.own.lateLeft(now)
    const lines = this.#ranks[place.standing.rank]
    const line = lines?.get(place.tenant)
    const at = line?.indexOf(place) ?? -1
    if (!lines || !line || at < 0) return
    if (line.length > 1) line.splice(at, 1)
    else lines.delete(place.tenant)
  }
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

function add(sums: ChurnMap<string, number>, key: string, change: number): void {
  const sum = (sums.get(key) ?? 0) + change
  // Sums of seconds leave a rounding behind.
  if (Math.abs(sum) < 1e-9) sums.delete(key)
  else sums.set(key, sum)
}
