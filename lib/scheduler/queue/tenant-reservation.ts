import type { Parameters } from '../parameters.ts'
import { DemandTracker } from './demand-tracker.ts'
import type { Tenants } from './tenants.ts'

/** What a tenant is held to that asks for much more than its share. */
export interface ReservationLimits {
  /** What the others ask for, as a share of all that the fleet can serve. */
  readonly others: number
  /** Share of the fleet that it can count on. */
  readonly part: number
}

/**
 * Keeps room for the others while one tenant asks for much more than its share. The order of the queue alone comes too late:
 * before there is a queue whoever sends most has every slot, and keeps it for as long as answers take. As on telephone trunks
 * the last free places are not for the stream that overflows (trunk reservation). Nobody makes way for the less urgent.
 */
export class TenantReservation {
  readonly #rules: Parameters
  readonly #tenants: Tenants
  /** By rank: what is asked for that is as urgent, or more. */
  readonly #byRank: DemandTracker[] = []

  constructor(rules: Parameters, tenants: Tenants) {
    this.#rules = rules
    this.#tenants = tenants
  }

  /** A tenant asks for so many seconds of the whole fleet's work. */
  requested(tenant: string, rank: number, fleetS: number, now: number): void {
    this.#byRank[rank] ??= new DemandTracker(this.#rules.reservation, this.#tenants)
    const account = this.#tenants.account(tenant)
    for (let lower = rank; lower < this.#byRank.length; lower++)
      this.#byRank[lower]?.requested(account, fleetS, now)
  }

  /** Null for whoever is not held back: who does not ask for too much, has less than its share of what runs, or is one of many such. */
  limits(tenant: string, rank: number, now: number): ReservationLimits | null {
    if (!this.#rules.uses.reservation) return null
    const account = this.#tenants.account(tenant)
    const due = this.#byRank[rank]?.excess(account, now)
    if (!due || this.#tenants.runningShare(account) < due.share) return null
    return { others: due.others, part: Math.max(due.share, 1 - due.others) }
  }
}
