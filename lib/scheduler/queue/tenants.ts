import type { Parameters } from '../parameters.ts'

interface Account {
  /** Tokens served, divided by the tenant's weight. */
  counter: number
  queued: number
  running: number
}

/**
 * Tokens served by tenant: the virtual token counter (VTC, docs/routing.md#order). The tenant with the lowest counter goes
 * first. A tenant that returns from idleness starts level with those that wait, so that idle time is not saved up.
 */
export class Tenants {
  readonly #parameters: Parameters
  readonly #accounts = new Map<string, Account>()
  /** The counter of the tenant served last: a newcomer starts there when no tenant waits. */
  #level = 0
  /** Running requests of all tenants. */
  #running = 0

  constructor(parameters: Parameters) {
    this.#parameters = parameters
  }

  /** The name under which a tenant is counted. */
  account(tenant: string): string {
    return this.#parameters.uses.fairness ? tenant : ''
  }

  weight(tenant: string): number {
    const { tenantWeights } = this.#parameters
    // Operators choose the names, and "constructor" is a possible one.
    return (Object.hasOwn(tenantWeights, tenant) && tenantWeights[tenant]) || 1
  }

  counter(tenant: string): number {
    return this.#accounts.get(tenant)?.counter ?? this.#level
  }

  /** The tenant's share of all running requests. */
  runningShare(tenant: string): number {
    return (this.#accounts.get(tenant)?.running ?? 0) / Math.max(1, this.#running)
  }

  joined(tenant: string): void {
    const account = this.#open(tenant)
    if (account.queued === 0) account.counter = Math.max(account.counter, this.#least())
    account.queued++
  }

  left(tenant: string): void {
    this.#open(tenant).queued--
    this.#close(tenant)
  }

  /** A request of the tenant starts, with so many expected tokens. */
  began(tenant: string, tokens: number): void {
    const account = this.#open(tenant)
    this.#level = Math.max(this.#level, account.counter)
    account.counter += tokens / this.weight(tenant)
    account.running++
    this.#running++
  }

  /** A request ended. @param tokens used beyond the expected ones; may be negative. */
  ended(tenant: string, tokens: number): void {
    const account = this.#open(tenant)
    account.counter += tokens / this.weight(tenant)
    account.running--
    this.#running--
    this.#close(tenant)
  }

  #open(tenant: string): Account {
    const known = this.#accounts.get(tenant)
    if (known) return known
    const account = { counter: this.#level, queued: 0, running: 0 }
    this.#accounts.set(tenant, account)
    return account
  }

  /** Forgets an idle tenant that would start at the same counter, or higher, as a newcomer. */
  #close(tenant: string): void {
    const account = this.#accounts.get(tenant)
    if (account && account.queued + account.running <= 0 && account.counter <= this.#level)
      this.#accounts.delete(tenant)
  }

  #least(): number {
    let least = Number.POSITIVE_INFINITY
    for (const { queued, counter } of this.#accounts.values())
      if (queued > 0) least = Math.min(least, counter)
    return least === Number.POSITIVE_INFINITY ? this.#level : least
  }
}
