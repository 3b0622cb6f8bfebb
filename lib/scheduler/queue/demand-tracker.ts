import type { Parameters } from '../parameters.ts'
import type { Tenants } from './tenants.ts'

/** Demand of one tenant: seconds of the whole fleet's work requested per second, as of a time. */
interface Demand {
  rate: number
  at: number
  /** As computed last. */
  isExcessive: boolean
}

/** The limits of a tenant that asks for much more than its share. */
interface Due {
  /** Demand of all tenants within their shares: seconds of the whole fleet's work per second. */
  readonly others: number
  /** Its weight, as a share of the weights of all active tenants. */
  readonly share: number
}

/** Tracks how much of the fleet each tenant has asked for lately. */
export class DemandTracker {
  readonly #parameters: Parameters['reservation']
  readonly #tenants: Tenants
  /** By account. */
  readonly #demands = new Map<string, Demand>()
  readonly #all: Demand = { rate: 0, at: 0, isExcessive: false }
  #weights = 0
  /** Demand of all tenants within their shares, as computed last; null: no such tenant. */
  #fair: number | null = null
  #levelledAt = Number.NEGATIVE_INFINITY

  constructor(parameters: Parameters['reservation'], tenants: Tenants) {
    this.#parameters = parameters
    this.#tenants = tenants
  }

  /** @param fleetS seconds of the whole fleet's work. */
  requested(account: string, fleetS: number, now: number): void {
    let demand = this.#demands.get(account)
    if (!demand) {
      demand = { rate: 0, at: now, isExcessive: false }
      this.#demands.set(account, demand)
      this.#levelledAt = Number.NEGATIVE_INFINITY
    }
    for (const each of [demand, this.#all]) {
      each.rate = this.#rate(each, now) + fleetS / this.#parameters.demandS
      each.at = now
    }
  }

  /** Null: the tenant is within its share, the fleet can serve all demand, or every tenant exceeds its share. */
  excess(account: string, now: number): Due | null {
    if (now >= this.#levelledAt + this.#parameters.levelS) this.#levelOut(now)
    if (this.#fair === null || !this.#demands.get(account)?.isExcessive) return null
    return { others: this.#fair, share: this.#tenants.weight(account) / this.#weights }
  }

  /**
   * Divides the capacity of the fleet among the active tenants by weight; a tenant that asks for less leaves the rest to the
   * others. A demand up to the resulting level is fair (max-min fairness).
   */
  #levelOut(now: number): void {
    this.#levelledAt = now
    this.#weights = 0
    this.#fair = null
    const asking: { readonly demand: Demand; readonly perWeight: number; readonly weight: number }[] = []
    for (const [account, demand] of this.#demands) {
      if (now >= demand.at + this.#parameters.activeS) {
        this.#demands.delete(account)
        continue
      }
      const weight = this.#tenants.weight(account)
      this.#weights += weight
      demand.isExcessive = false
      asking.push({ demand, perWeight: this.#rate(demand, now) / weight, weight })
    }
    if (this.#rate(this.#all, now) <= this.#parameters.overload) return
    let room = this.#parameters.overload
    let weights = this.#weights
    for (const { demand, perWeight, weight } of asking.sort((a, b) => a.perWeight - b.perWeight)) {
      const level = room / weights
      demand.isExcessive = perWeight > this.#parameters.excess * level
      if (!demand.isExcessive) this.#fair = (this.#fair ?? 0) + perWeight * weight
      room -= Math.min(perWeight, level) * weight
      weights -= weight
    }
  }

  #rate({ rate, at }: Demand, now: number): number {
    return rate * Math.exp((at - now) / this.#parameters.demandS)
  }
}
