import { randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { type Lease, StoreError } from '../store.ts'

/** A lease's time to live, in milliseconds, and the function that cancels its expiry. */
interface Term {
  readonly ttlMs: number
  readonly cancel: () => void
}

/** The leases in force in the embedded store. */
export class Leases {
  readonly #clock: Clock
  readonly #expired: () => void
  readonly #terms = new Map<string, Term>()

  /** @param expired called after a lease has ended by itself. */
  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock
    this.#expired = expired
  }

  has(id: string): boolean {
    return this.#terms.has(id)
  }

  grant(ttlMs: number): Lease {
    const id = randomUUID()
    this.#begin(id, ttlMs)
    return { id, ttlMs }
  }

  /**
   * @returns the remaining milliseconds
   * @throws StoreError `no-lease`
   */
  renew(id: string): number {
    const term = this.#terms.get(id)
    if (!term) throw new StoreError('no-lease', `lease ${id} does not exist`)
    term.cancel()
    this.#begin(id, term.ttlMs)
    return term.ttlMs
  }

  /** Ends a lease now. It is no error if the lease is already gone. */
  end(id: string): void {
    this.#terms.get(id)?.cancel()
    this.#terms.delete(id)
  }

  /** Nothing expires any more. */
  close(): void {
    for (const { cancel } of this.#terms.values()) cancel()
  }

  #begin(id: string, ttlMs: number): void {
    const cancel = this.#clock.after(ttlMs, () => {
      this.#terms.delete(id)
      this.#expired()
    })
    this.#terms.set(id, { ttlMs, cancel })
  }
}
