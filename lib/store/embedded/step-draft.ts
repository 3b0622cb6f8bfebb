import { type Change, type Committed, type Entry, isMet, StoreError, type Transaction } from '../store.ts'

/** Everything that changed at one revision. */
export interface StoreStep {
  readonly revision: bigint
  readonly changes: readonly Change[]
}

/** Which leases are in force. */
type Living = Pick<ReadonlySet<string>, 'has'>

/**
 * Decides transactions on top of the stored entries without touching them, so that a batch becomes visible only once it is
 * on the disk. As in etcd, a transaction that changes nothing makes no revision.
 */
export class StepDraft {
  readonly #stored: ReadonlyMap<string, Entry>
  readonly #changed = new Map<string, Entry | null>()
  readonly #steps: StoreStep[] = []
  #revision: bigint

  constructor(stored: ReadonlyMap<string, Entry>, revision: bigint) {
    this.#stored = stored
    this.#revision = revision
  }

  get steps(): readonly StoreStep[] {
    return this.#steps
  }

  /** @throws StoreError `no-lease` when a put names a lease that is not in `leases` */
  commit({ when, apply, otherwise = [] }: Transaction, leases: Living): Committed {
    if (!when.every((compare) => isMet(compare, this.#get(compare.key)))) {
      return { succeeded: false, revision: this.#revision, found: otherwise.map((key) => this.#get(key)) }
    }
    const revision = this.#revision + 1n
    const changes: Change[] = []
    for (const operation of apply) {
      if (operation.type === 'put')
        changes.push({ type: 'put', entry: this.#entry(operation, revision, leases) })
      else if (this.#get(operation.key)) {
        changes.push({ type: 'delete', key: operation.key, modified: revision })
      }
    }
    this.#add(changes)
    return { succeeded: true, revision: this.#revision, found: [] }
  }

  /** Deletes every entry under a lease that is not in `leases`, at one revision. */
  sweep(leases: Living): void {
    const revision = this.#revision + 1n
    const keys = new Set([...this.#stored.keys(), ...this.#changed.keys()])
    const orphans = [...keys].filter((key) => {
      const lease = this.#get(key)?.lease ?? null
      return lease !== null && !leases.has(lease)
    })
    this.#add(orphans.map((key) => ({ type: 'delete', key, modified: revision })))
  }

  #get(key: string): Entry | null {
    const changed = this.#changed.get(key)
    return changed === undefined ? (this.#stored.get(key) ?? null) : changed
  }

  #entry(
    put: { readonly key: string; readonly value: string; readonly lease?: string },
    revision: bigint,
    leases: Living,
  ): Entry {
    const { key, value, lease = null } = put
    if (lease !== null && !leases.has(lease))
      throw new StoreError('no-lease', `lease ${lease} does not exist`)
    return { key, value, created: this.#get(key)?.created ?? revision, modified: revision, lease }
  }

  #add(changes: readonly Change[]): void {
    if (changes.length === 0) return
    this.#revision += 1n
    this.#steps.push({ revision: this.#revision, changes })
    for (const change of changes) {
      if (change.type === 'put') this.#changed.set(change.entry.key, change.entry)
      else this.#changed.set(change.key, null)
    }
  }
}
