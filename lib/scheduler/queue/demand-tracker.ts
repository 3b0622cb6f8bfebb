import type { Parameters } from '../parameters.ts'
import type { Tenants } from './tenants.ts'

/** Seconds of the whole fleet's work asked for in a second, and when that was so. */
interface Demand {
  rate: number
  at: number
  /** As of the last level. */
  isExcessive: boolean
}

/** What one is due that asks for much more than its share. */
interface Due {
  /** What those ask for that do not ask for too much: seconds of the whole fleet's work in a second. */
  readonly others: number
  /** Its weight against that of all who asked of late. */
  readonly share: number
}

/** Who asks for how much of the fleet of late. */
export class DemandTracker {
  readonly #rules: Parameters['reservation']
  readonly #tenants: Tenants
  /** By account. */
  readonly #demands = new Map<string, Demand>()
  readonly #all: Demand = { rate: 0, at: 0, isExcessive: false }
  #weights = 0
  /** Of those who do not ask for too much, as of the last level; null: there are none. */
  #fair: number | null = null
  #levelledAt = Number.NEGATIVE_INFINITY

  constructor(rules: Parameters['reservation'], tenants: Tenants) {
    this.#rules = rules
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
      each.rate = this.#rate(each, now) + fleetS / this.#rules.demandS
      each.at = now
    }
  }

  /** Null for who does not ask for too much, as for all while that can be served, and where everybody does. */
  excess(account: string, now: number): Due | null {
    if (now >= this.#levelledAt + this.#rules.levelS) this.#levelOut(now)
    if (this.#fair === null || !this.#demands.get(account)?.isExcessive) return null
    return { others: this.#fair, share: this.#tenants.weight(account) / this.#weights }
  }

  /**
   * Pours what the fleet can serve over all who ask, by weight: whoever asks for less leaves the rest to the others. Up to that
   * level a demand is fair (max-min fairness).
   */
  #levelOut(now: number): void {
    this.#levelledAt = now
    this.#weights = 0
    this.#fair = null
    const asking: { readonly demand: Demand; readonly perWeight: number; readonly weight: number }[] = []
    for (const [account, demand] of this.#demands) {
      if (now >= demand.at + this.#rules.activeS) {
        this.#demands.delete(account)
        continue
      }
      const weight = this.#tenants.weight(account)
      this.#weights += weight
      demand.isExcessive = false
      asking.push({ demand, perWeight: this.#rate(demand, now) / weight, weight })
    }
    if (this.#rate(this.#all, now) <= this.#rules.overload) return
    let room = this.#rules.overload
    let weights = this.#weights
    for (const { demand, perWeight, weight } of asking.sort((a, b) => a.perWeight - b.perWeight)) {
      const level = room / weights
      demand.isExcessive = perWeight > this.#rules.excess * level
      if (!demand.isExcessive) this.#fair = (this.#fair ?? 0) + perWeight * weight
      room -= Math.min(perWeight, level) * weight
      weights -= weight
    }
  }

  #rate({ rate, at }: Demand, now: number): number {
    return rate * Math.exp((at - now) / this.#rules.demandS)
  }
}
