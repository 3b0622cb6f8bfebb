import { ChurnMap } from '../../shared/churn-map.ts'
import type { SchedulingRequest } from '../events.ts'
import type { Parameters } from '../parameters.ts'
import { type QueueEntry, type QueuePriority, queuePriorityOf } from '../queue-entry.ts'
import { Backlog } from './backlog.ts'
import { type Group, Groups } from './groups.ts'
import { type QueuedEntry, type QueueHead, QueueOrder } from './queue-order.ts'
import type { Tenants } from './tenants.ts'

interface Position extends QueuedEntry {
  readonly tenant: string
  readonly backlog: Backlog
  priority: QueuePriority
}

/** The queue in order: strict ranks, tenants by tokens served, latest start inside a tenant. */
export class FairQueue {
  readonly #parameters: Parameters
  readonly #tenants: Tenants
  /** By request id, in order of arrival. */
  readonly #positions = new ChurnMap<string, Position>()
  /** By rank and tenant; sorted by key, equals by arrival. No list is empty. */
  readonly #ranks: ChurnMap<string, Position[]>[] = []
  readonly #groups = new Groups()
  readonly #byModel = new ChurnMap<string, number>()
  /** By model; each has a few. No backlog is empty. */
  readonly #backlogs = new ChurnMap<string, Backlog[]>()
  #newcomers: QueueEntry[] = []
  /** When the next priority changes. */
  #changesAt = Number.POSITIVE_INFINITY

  constructor(parameters: Parameters, tenants: Tenants) {
    this.#parameters = parameters
    this.#tenants = tenants
  }

  get length(): number {
    return this.#positions.size
  }

  /** The request that entered the queue first. */
  get oldest(): QueueEntry | undefined {
    return this.#positions.values().next().value?.entry
  }

  /** When the next request ages or becomes late, in monotonic seconds. */
  get changesAt(): number {
    return this.#changesAt
  }

  get(id: string): QueueEntry | undefined {
    return this.#positions.get(id)?.entry
  }

  /** All requests, in the order in which they entered the queue. */
  *all(): Iterable<QueueEntry> {
    for (const { entry } of this.#positions.values()) yield entry
  }

  /** The current rank of a request; 0 goes first. */
  rankOf({ request, classParameters }: QueueEntry): number {
    return this.#positions.get(request.id)?.priority.rank ?? classParameters.rank
  }

  /** The queued requests, grouped by the nodes that they may use. */
  get groups(): Iterable<Group> {
    return this.#groups.all()
  }

  /** Queued requests for a model. */
  ofModel(model: string): number {
    return this.#byModel.get(model) ?? 0
  }

  /** Requests for the same model that are ahead of a request: as urgent, or more. */
  aheadOf({ request, classParameters }: QueueEntry): number {
    let ahead = 0
    for (const { priority, entry } of this.#positions.values())
      if (
        priority.rank <= classParameters.rank &&
        entry.request.model === request.model &&
        entry.request.id !== request.id
      )
        ahead++
    return ahead
  }

  /** Seconds of the fleet's work that the tenant of a request has queued in its class for its model. */
  drainS(request: SchedulingRequest): number {
    return this.#backlogOf(request)?.drainS ?? 0
  }

  /**
   * The request that is removed when the queue is too long: in the least urgent rank, of the tenant with most requests, of
   * its model with most requests, the last one. So no class, tenant or model keeps the others out. Requests that a node
   * failed were admitted before, and stay.
   */
  get last(): QueueEntry | undefined {
    let longest: readonly Position[] = []
    for (const sameTenant of this.#ranks.findLast((byTenant) => byTenant && byTenant.size > 0)?.values() ??
      [])
      if (sameTenant.length >= longest.length) longest = sameTenant
    const removable = longest.filter(({ entry }) => entry.request.tried.size === 0)
    const ofModel = Map.groupBy(removable, ({ entry }) => entry.request.model)
    let most: readonly Position[] = []
    for (const positions of ofModel.values()) if (positions.length >= most.length) most = positions
    return most.at(-1)?.entry
  }

  /** Whether the backlog of a request is a standing queue: its requests are always late, so waiting only adds delay. */
  isStanding(request: SchedulingRequest): boolean {
    return this.#backlogOf(request)?.isStanding ?? false
  }

  /** @param isNew whether it may wait is not decided yet. */
  add(entry: QueueEntry, isNew: boolean, now: number): void {
    const { request } = entry
    const { id, model, tenant } = request
    const account = this.#tenants.account(tenant)
    this.#tenants.joined(account)
    if (isNew) this.#newcomers.push(entry)
    add(this.#byModel, model, 1)
    const backlog = this.#backlogOf(request) ?? this.#newBacklog(request)
    backlog.join(entry.drainS)
    const group = this.#groups.join(request)
    const position = {
      entry,
      tenant: account,
      group,
      backlog,
      priority: queuePriorityOf(entry, this.#parameters, now),
    }
    this.#positions.set(id, position)
    this.#put(position, now)
  }

  /** Returns whether the request was queued. */
  remove(id: string, now: number): boolean {
    const position = this.#positions.get(id)
    if (!position) return false
    this.#positions.delete(id)
    this.#takeOut(position, now)
    const { request, drainS } = position.entry
    this.#tenants.left(position.tenant)
    this.#groups.leave(position.group)
    add(this.#byModel, request.model, -1)
    position.backlog.leave(drainS)
    if (position.backlog.isEmpty) this.#dropBacklog(request.model, position.backlog)
    return true
  }

  /** A request has got its slot. */
  started({ id, model, arrivedAt }: SchedulingRequest, now: number): void {
    this.remove(id, now)
    for (const backlog of this.#backlogs.get(model) ?? []) backlog.started(arrivedAt)
  }

  /** Requests that arrived since the last call and still wait, the last one first. */
  takeNewcomers(): QueueEntry[] {
    const newcomers = this.#newcomers.filter((entry) => this.get(entry.request.id) === entry)
    this.#newcomers = []
    return newcomers.reverse()
  }

  /** Updates the priorities that ageing and lateness have changed by now. */
  age(now: number): void {
    if (now < this.#changesAt) return
    this.#changesAt = Number.POSITIVE_INFINITY
    for (const position of this.#positions.values()) {
      const { until } = position.priority
      if (now < until) {
        this.#changesAt = Math.min(this.#changesAt, until)
        continue
      }
      this.#takeOut(position, now)
      position.priority = queuePriorityOf(position.entry, this.#parameters, now)
      this.#put(position, now)
    }
  }

  /** @param isOver tells groups to skip from then on; skipped requests are not charged. */
  inOrder(isOver: (group: Group) => boolean = () => false): QueueOrder {
    return new QueueOrder(this.#parameters, this.#ranks.length, (rank) => this.#headsOf(rank), isOver)
  }

  #headsOf(rank: number): QueueHead[] {
    const heads: QueueHead[] = []
    for (const [tenant, entries] of this.#ranks[rank] ?? []) {
      const counter = this.#tenants.counter(tenant)
      heads.push({ entries, at: 0, counter, weight: this.#tenants.weight(tenant) })
    }
    return heads
  }

  #backlogOf({ model, class: named, tenant }: SchedulingRequest): Backlog | undefined {
    return this.#backlogs.get(model)?.find((each) => each.class === named && each.tenant === tenant)
  }

  #newBacklog({ model, class: named, tenant }: SchedulingRequest): Backlog {
    const backlog = new Backlog(named, tenant, this.#parameters.admission.evidence)
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

  #put(position: Position, now: number): void {
    const { rank, isLate, until } = position.priority
    if (isLate) position.backlog.becameLate(now)
    this.#changesAt = Math.min(this.#changesAt, until)
    this.#ranks[rank] ??= new ChurnMap<string, Position[]>()
    const byTenant = this.#ranks[rank]
    const sameTenant = byTenant.get(position.tenant)
    if (sameTenant) sameTenant.splice(indexIn(sameTenant, position), 0, position)
    else byTenant.set(position.tenant, [position])
  }

  #takeOut(position: Position, now: number): void {
    if (position.priority.isLate) position.backlog.lateLeft(now)
    const byTenant = this.#ranks[position.priority.rank]
    const sameTenant = byTenant?.get(position.tenant)
    const at = sameTenant?.indexOf(position) ?? -1
    if (!byTenant || !sameTenant || at < 0) return
    if (sameTenant.length > 1) sameTenant.splice(at, 1)
    else byTenant.delete(position.tenant)
  }
}

/** The index of a position: after all positions that are not later. */
function indexIn(sameTenant: readonly Position[], position: Position): number {
  let [low, high] = [0, sameTenant.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const other = sameTenant[middle]
    if (other && isBefore(position, other)) high = middle
    else low = middle + 1
  }
  return low
}

function isBefore(a: Position, b: Position): boolean {
  if (a.priority.key !== b.priority.key) return a.priority.key < b.priority.key
  return a.entry.request.arrivedAt < b.entry.request.arrivedAt
}

function add(sums: ChurnMap<string, number>, key: string, change: number): void {
  const sum = (sums.get(key) ?? 0) + change
  // Sums of seconds leave rounding errors behind.
  if (Math.abs(sum) < 1e-9) sums.delete(key)
  else sums.set(key, sum)
}
