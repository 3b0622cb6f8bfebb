import { randomUUID } from 'node:crypto'
import type { Entry, Operation, Store } from '../store/store.ts'

/**
 * `R/meta/uid`: which store this is. etcd's own cluster id is the same after a wipe (docs/etcd.md#key-layout). The value is the
 * uid, then those of the stores it stands in for, divided by spaces.
 */
export interface StoreUid {
  readonly id: string
  readonly replaces: readonly string[]
}

/** Former uids kept: an instance that was away for more acceptances than these must be asked again. */
const maxReplaced = 10

/** Null when the store has none. */
export function readUid(entry: Entry | undefined | null): StoreUid | null {
  const [id, ...replaces] = entry?.value.split(/\s+/).filter(Boolean) ?? []
  return id === undefined ? null : { id, replaces }
}

/** The write that names a store that has no uid. */
export function nameStore(key: string): Operation {
  return { type: 'put', key, value: randomUUID() }
}

/**
 * Declares that the store, as it is, stands in for the one known as `known`: every instance that remembers `known`
 * believes it from then on, also one that is not running now. Rejects with a StoreError.
 */
export async function succeedStore(store: Store, key: string, known: string): Promise<void> {
  for (;;) {
    const entry = await store.get(key)
    const { id, replaces } = readUid(entry) ?? { id: known, replaces: [] }
    const former = [...new Set([known, id, ...replaces])].slice(0, maxReplaced)
    const { succeeded } = await store.commit({
      when: [entry ? { key, modified: entry.modified } : { key, created: 0n }],
      apply: [{ type: 'put', key, value: [randomUUID(), ...former].join(' ') }],
    })
    if (succeeded) return
  }
}
