/** Since when some request of a line was always late, or none was; and how many requests for its model started since. */
interface Spell {
  readonly isLate: boolean
  /** Monotonic seconds. */
  readonly since: number
  /** Whether the queue was standing when the spell began. */
  readonly wasStanding: boolean
  started: number
}

/**
 * What one tenant has waiting of one class for one model. It tells a burst from a standing queue as CoDel does: a burst
 * drains, however long that takes, while a queue whose requests are late all the time only adds delay. Hence only starts of
 * requests count that came when others of the line were late already, and a line that was empty begins without a record.
 * Starts are counted instead of seconds: a line in front of one slow node may be late for a minute without being too long.
 */
export class Line {
  readonly #evidence: number
  #waiting = 0
  #drainS = 0
  #late = 0
  /** Null before any request was late. */
  #spell: Spell | null = null

  /** @param evidence so many starts in a row show that some request is always late, or none. */
  constructor(evidence: number) {
    this.#evidence = evidence
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** Seconds of the fleet's work. */
  get drainS(): number {
    return this.#drainS
  }

  /** Some request is always late, or it is not yet known that all are in time again. */
  get isStanding(): boolean {
    if (!this.#spell) return false
    const { isLate, wasStanding, started } = this.#spell
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

  /** A request of the line is late from now on. */
  becameLate(now: number): void {
    if (this.#late++ === 0) this.#turn(true, now)
  }

  /** A late request of the line waits no more, or will be in time again. */
  lateLeft(now: number): void {
    if (--this.#late === 0) this.#turn(false, now)
  }

  /** A request for the model started, of any line. */
  started(arrivedAt: number): void {
    const spell = this.#spell
    if (spell && (!spell.isLate || arrivedAt >= spell.since)) spell.started++
  }

  #turn(isLate: boolean, since: number): void {
    this.#spell = { isLate, since, wasStanding: this.isStanding, started: 0 }
  }
}
