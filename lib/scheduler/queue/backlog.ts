/** A time during which some request of a backlog was always late, or none was. */
interface LatePeriod {
  readonly isLate: boolean
  /** Monotonic seconds. */
  readonly since: number
  /** Whether the queue was standing when the period began. */
  readonly wasStanding: boolean
  /** Requests for the model that started since. */
  started: number
}

/**
 * The requests of one tenant and one class that wait for one model. It tells a burst from a standing queue as CoDel does: a burst
 * drains, however long that takes, while a queue whose requests are late all the time only adds delay. Hence only starts of
 * requests count that came when others of the backlog were late already, and an empty backlog keeps no record.
 * Starts are counted instead of seconds: a backlog in front of one slow node may be late for a minute without being too long.
 */
export class Backlog {
  readonly class: string
  readonly tenant: string
  readonly #evidence: number
  #waiting = 0
  #drainS = 0
  #late = 0
  /** Null before any request was late. */
  #period: LatePeriod | null = null

  /** @param evidence so many starts in a row show that some request is always late, or none. */
  constructor(named: string, tenant: string, evidence: number) {
    this.class = named
    this.tenant = tenant
    this.#evidence = evidence
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** Sum of the requests' `drainS`. */
  get drainS(): number {
    return this.#drainS
  }

  /** Whether some request is always late. The last answer stands until there is enough evidence for the other. */
  get isStanding(): boolean {
    if (!this.#period) return false
    const { isLate, wasStanding, started } = this.#period
    return started >= this.#evidence ? isLate : wasStanding
  }

  join(drainS: number): void {
    this.#waiting++
    this.#drainS += drainS
  }

  leave(drainS: number): void {
    this.#waiting--
    this.#drainS -= drainS
  }

  /** A request of the backlog is late from now on. */
  becameLate(now: number): void {
    if (this.#late++ === 0) this.#turn(true, now)
  }

  /** A late request of the backlog left the queue, or is in time again. */
  lateLeft(now: number): void {
    if (--this.#late === 0) this.#turn(false, now)
  }

  /** A request for the model started, of any backlog. */
  started(arrivedAt: number): void {
    const period = this.#period
    if (period && (!period.isLate || arrivedAt >= period.since)) period.started++
  }

  #turn(isLate: boolean, since: number): void {
    this.#period = { isLate, since, wasStanding: this.isStanding, started: 0 }
  }
}
