interface Spell {
  /** Requests of the tenant that are late and wait. */
  late: number
  /** How many had started when this spell began: of somebody being late, or of nobody. */
  since: number
  wasStanding: boolean
}

/**
 * Whether a tenant's requests are late all the time, as CoDel asks: a line that is never short only adds delay (sheet
 * routing.md §2.7). The shortest wait would not tell, since who is late lets others pass. And it is counted in requests
 * instead of seconds: a line in front of one slow node may be late for a minute without being too long.
 */
export class Lateness {
  readonly #evidence: number
  /** By tenant: only those of whom somebody was late of late. */
  readonly #spells = new Map<string, Spell>()
  /** Requests, of all tenants. */
  #started = 0

  /** @param evidence so many starts in a row show that it is always so. */
  constructor(evidence: number) {
    this.#evidence = evidence
  }

  started(): void {
    this.#started++
  }

  /** A request of the tenant is late from now on. */
  came(tenant: string): void {
    const spell = this.#spells.get(tenant) ?? { late: 0, since: this.#started, wasStanding: false }
    this.#spells.set(tenant, spell)
    if (spell.late === 0) this.#turn(spell)
    spell.late++
  }

  /** A late one waits no more. */
  went(tenant: string): void {
    const spell = this.#spells.get(tenant)
    if (!spell) return
    if (spell.late === 1) this.#turn(spell)
    spell.late--
  }

  /** Always late, or not yet known to be always in time again. */
  isStanding(tenant: string): boolean {
    const spell = this.#spells.get(tenant)
    if (!spell) return false
    const isStanding = this.#isStanding(spell)
    if (spell.late === 0 && !isStanding) this.#spells.delete(tenant)
    return isStanding
  }

  #isStanding({ late, since, wasStanding }: Spell): boolean {
    return this.#started - since >= this.#evidence ? late > 0 : wasStanding
  }

  #turn(spell: Spell): void {
    spell.wasStanding = this.#isStanding(spell)
    spell.since = this.#started
  }
}
