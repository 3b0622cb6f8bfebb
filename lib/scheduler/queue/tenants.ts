import type { Parameters } from '../parameters.ts'

interface Account {
  /** Tokens served, divided by the tenant's weight. */
  counter: number
  queued: number
  running: number
}

/**
 * Who was served how much: the virtual token counter (VTC, docs/routing.md#order). Whoever has had least goes first; who
 * comes back from idleness starts level with those that wait, so that nobody saves up.
 */
export class Tenants {
  readonly #rules: Parameters
  readonly #accounts = new Map<string, Account>()
  /** Of the tenant served last: where a newcomer starts when nobody waits. */
  #level = 0
  /** Requests of all of them. */
  #running = 0

  constructor(rules: Parameters) {
    this.#rules = rules
  }

  /** Under which name a tenant is counted here. */
  account(tenant: string): string {
    return this.#rules.uses.fairness ? tenant : ''
  }

  weight(tenant: string): number {
    const { tenantWeights } = this.#rules
    // Names are the operators' choice, and "constructor" is one.
    return (Object.hasOwn(tenantWeights, tenant) && tenantWeights[tenant]) || 1
  }

  counter(tenant: string): number {
    return this.#accounts.get(tenant)?.counter ?? this.#level
  }

  /** Of all requests that run, those of the tenant; 0 when it runs none. */
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

  /** A request of the tenant starts, and is expected to use so many tokens. */
  began(tenant: string, tokens: number): void {
    const account = this.#open(tenant)
    this.#level = Math.max(this.#level, account.counter)
    account.counter += tokens / this.weight(tenant)
    account.running++
    this.#running++
  }

  /** It is over, and used so many more than expected, or fewer. */
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

  /** Forgets an idle tenant that would start no lower as a newcomer. */
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
