import type { Parameters } from './parameters.ts'
import type { Tenants } from './tenants.ts'

/** Seconds of the whole fleet's work asked for in a second, and when that was so. */
interface Demand {
  rate: number
  at: number
}

/** What one of those who ask is due. */
interface Due {
  /** Seconds of the whole fleet's work that it asks for in a second, and that the others do. */
  readonly own: number
  readonly others: number
  /** Its weight against that of all who asked of late. */
  readonly share: number
  /** As much as it may ask for without anybody going short who asks for less (max-min fairness). */
  readonly fair: number
}

/** Who asks for how much of the fleet of late. */
export class Demands {
  readonly #rules: Parameters['restraint']
  readonly #tenants: Tenants
  /** By account. */
  readonly #demands = new Map<string, Demand>()
  readonly #all: Demand = { rate: 0, at: 0 }
  /** Fair demand per weight, and all weights. */
  #level = Number.POSITIVE_INFINITY
  #weights = 0
  #levelledAt = Number.NEGATIVE_INFINITY

  constructor(rules: Parameters['restraint'], tenants: Tenants) {
    this.#rules = rules
    this.#tenants = tenants
  }

  /** @param fleetS seconds of the whole fleet's work. */
  asked(account: string, fleetS: number, now: number): void {
    let demand = this.#demands.get(account)
    if (!demand) {
      demand = { rate: 0, at: now }
      this.#demands.set(account, demand)
      this.#levelledAt = Number.NEGATIVE_INFINITY
    }
    for (const each of [demand, this.#all]) {
      each.rate = this.#rate(each, now) + fleetS / this.#rules.demandS
      each.at = now
    }
  }

  /** Null while all together ask for so little that nobody need be looked at, and for who asked for nothing. */
  due(account: string, now: number): Due | null {
    const all = this.#rate(this.#all, now)
    const demand = this.#demands.get(account)
    if (!demand || all <= this.#rules.overload) return null
    if (now >= this.#levelledAt + this.#rules.levelS) this.#levelOut(now)
    const weight = this.#tenants.weight(account)
    const own = this.#rate(demand, now)
    const others = Math.max(0, all - own)
    return { own, others, share: weight / this.#weights, fair: this.#level * weight }
  }

  /** Pours what the fleet can serve over all who ask, by weight: whoever asks for less leaves the rest to the others. */
  #levelOut(now: number): void {
    this.#levelledAt = now
    this.#weights = 0
    const asking: { readonly perWeight: number; readonly weight: number }[] = []
    for (const [account, demand] of this.#demands) {
      if (now >= demand.at + this.#rules.activeS) {
        this.#demands.delete(account)
        continue
      }
      const weight = this.#tenants.weight(account)
      this.#weights += weight
      asking.push({ perWeight: this.#rate(demand, now) / weight, weight })
    }
    let room = this.#rules.overload
    let weights = this.#weights
    for (const { perWeight, weight } of asking.sort((a, b) => a.perWeight - b.perWeight)) {
      this.#level = room / weights
      if (perWeight > this.#level) return
      room -= perWeight * weight
      weights -= weight
    }
    this.#level = Number.POSITIVE_INFINITY
  }

  #rate({ rate, at }: Demand, now: number): number {
    return rate * Math.exp((at - now) / this.#rules.demandS)
  }
}
