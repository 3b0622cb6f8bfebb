import type { Parameters } from '../parameters.ts'
import { DemandTracker } from './demand-tracker.ts'
import type { Tenants } from './tenants.ts'

/** Limits of a tenant that asks for much more than its share. */
export interface ReservationLimits {
  /** Demand of the other tenants, as a share of the fleet's capacity. */
  readonly others: number
  /** Share of the fleet that the tenant gets at least. */
  readonly part: number
}

/**
 * Reserves room for the others while one tenant asks for much more than its share. The order of the queue alone acts too
 * late: before a queue forms, the tenant that sends most takes every slot, and keeps it while its answers run. As in trunk
 * reservation on telephone lines, the last free slots are closed to the overflowing tenant. Less urgent demand does not count.
 */
export class TenantReservation {
  readonly #parameters: Parameters
  readonly #tenants: Tenants
  /** By rank: demand of that rank, and of more urgent ones. */
  readonly #byRank: DemandTracker[] = []

  constructor(parameters: Parameters, tenants: Tenants) {
    this.#parameters = parameters
    this.#tenants = tenants
  }

  /** A tenant requests so many seconds of the whole fleet's work. */
  requested(tenant: string, rank: number, fleetS: number, now: number): void {
    this.#byRank[rank] ??= new DemandTracker(this.#parameters.reservation, this.#tenants)
    const account = this.#tenants.account(tenant)
    for (let lower = rank; lower < this.#byRank.length; lower++)
      this.#byRank[lower]?.requested(account, fleetS, now)
  }

  /** Null: the tenant is not held back, because its demand is fair, it runs less than its share, or every tenant floods. */
  limits(tenant: string, rank: number, now: number): ReservationLimits | null {
    if (!this.#parameters.uses.reservation) return null
    const account = this.#tenants.account(tenant)
    const due = this.#byRank[rank]?.excess(account, now)
    if (!due || this.#tenants.runningShare(account) < due.share) return null
    return { others: due.others, part: Math.max(due.share, 1 - due.others) }
  }
}
