import type { Parameters } from './parameters.ts'
import type { Tenants } from './tenants.ts'

/** What a tenant is held to that asks for much more than its share. */
export interface Limits {
  /** What the others ask for, as a share of all that the fleet can serve. */
  readonly others: number
  /** Share of the fleet that it can count on. */
  readonly part: number
}

/** Seconds of the whole fleet's work asked for in a second, and when that was so. */
interface Demand {
  rate: number
  at: number
}

/**
 * Keeps room for the others while one tenant asks for much more than its share. The queue alone is too late for that: before
 * there is one, whoever sends most has every slot, and keeps it for as long as answers take. As on telephone trunks the last
 * free places are not for the stream that overflows.
 */
export class Restraint {
  readonly #rules: Parameters['restraint']
  readonly #tenants: Tenants
  /** By account, of those that asked of late. */
  readonly #demands = new Map<string, Demand>()
  readonly #all: Demand = { rate: 0, at: 0 }
  /** Demand per weight that everybody may have if nobody is to go short who asks for less: the max-min fair share. */
  #level = Number.POSITIVE_INFINITY
  #weights = 0
  #levelledAt = Number.NEGATIVE_INFINITY

  constructor(rules: Parameters['restraint'], tenants: Tenants) {
    this.#rules = rules
    this.#tenants = tenants
  }

  /** A tenant asks for so many seconds of the whole fleet's work. */
  asked(tenant: string, fleetS: number, now: number): void {
    const account = this.#tenants.account(tenant)
    const demand = this.#demands.get(account) ?? { rate: 0, at: now }
    this.#demands.set(account, demand)
    for (const each of [demand, this.#all]) {
      each.rate = this.#rate(each, now) + fleetS / this.#rules.demandS
      each.at = now
    }
  }

  /** Null for whoever is not held back: who asks for little, has less than its share of what runs, or is alone. */
  limits(tenant: string, now: number): Limits | null {
    const all = this.#rate(this.#all, now)
    if (all <= this.#rules.overload) return null
    const account = this.#tenants.account(tenant)
    const demand = this.#demands.get(account)
    if (!demand) return null
    this.#levelOut(now)
    const weight = this.#tenants.weight(account)
    const rate = this.#rate(demand, now)
    const share = weight / this.#weights
    if (share >= 1 || rate <= this.#rules.excess * this.#level * weight) return null
    if (this.#tenants.runningShare(account) < share) return null
    const others = Math.max(0, all - rate)
    return { others, part: Math.max(share, 1 - others) }
  }

  /** Pours what the fleet can serve over all who ask, by weight: whoever asks for less leaves the rest to the others. */
  #levelOut(now: number): void {
    if (now < this.#levelledAt + this.#rules.levelS) return
    this.#levelledAt = now
    const asking: { readonly perWeight: number; readonly weight: number }[] = []
    let weights = 0
    for (const [account, demand] of this.#demands) {
      if (now >= demand.at + this.#rules.activeS) {
        this.#demands.delete(account)
        continue
      }
      const weight = this.#tenants.weight(account)
      weights += weight
      asking.push({ perWeight: this.#rate(demand, now) / weight, weight })
    }
    this.#weights = weights
    this.#level = Number.POSITIVE_INFINITY
    let room = this.#rules.overload
    for (const { perWeight, weight } of asking.sort((a, b) => a.perWeight - b.perWeight)) {
      this.#level = room / weights
      if (perWeight > this.#level) return
      room -= perWeight * weight
      weights -= weight
    }
  }

  #rate({ rate, at }: Demand, now: number): number {
    return rate * Math.exp((at - now) / this.#rules.demandS)
  }
}
