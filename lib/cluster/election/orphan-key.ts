import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Entry, Store } from '../../store/store.ts'

interface OrphanKeyOptions {
  readonly store: Pick<Store, 'commit'>
  /** The leader key. */
  readonly key: string
  /** Id of this instance. */
  readonly id: string
  readonly ttlMs: number
  /** Whether an instance of that id is registered. */
  readonly isRegistered: (id: string) => boolean
  readonly clock: Clock
  readonly log: Pick<Log, 'warn'>
}

/**
 * Share of a TTL for which a leader key without a lease is left alone. When it was written over the key of a leader, it
 * ends that leader's term: at once if the leader reaches the store, otherwise 0.7 TTL after its last renewal.
 */
const leaselessShare = 0.75
/** The same for a key under a lease: a leader that is not registered any more steps down within one TTL. */
const unregisteredShare = 2

/**
 * Recognises a leader key that no instance can hold, because it was written by hand, and removes it: it would keep every
 * instance from leading.
 */
export class OrphanKey {
  readonly #options: OrphanKeyOptions
  #first: { readonly modified: bigint; readonly at: number } | null = null

  constructor(options: OrphanKeyOptions) {
    this.#options = options
  }

  /** Why no instance can hold the key as it is; null when one may. For a standby: a leader knows its own key. */
  reason({ value, lease }: Entry): string | null {
    const { id, isRegistered } = this.#options
    if (lease === null) return 'it has no lease, so it would never expire'
    if (value === id) return 'it names this instance, which does not hold it'
    return isRegistered(value) ? null : 'it names an instance that is not registered'
  }

  /** Milliseconds until the key may be removed, counted from when this version of it was first seen. */
  leftMs({ modified, lease }: Entry): number {
    const { clock, ttlMs } = this.#options
    if (this.#first?.modified !== modified) this.#first = { modified, at: clock.now() }
    const share = lease === null ? leaselessShare : unregisteredShare
    return Math.max(0, this.#first.at + share * ttlMs - clock.now())
  }

  /** Removes the key if no instance can hold it and it is old enough. Returns whether there is no leader key any more. */
  async removeIfDue(entry: Entry): Promise<boolean> {
    const reason = this.reason(entry)
    if (reason === null || this.leftMs(entry) > 0) return false
    return this.remove(entry, reason)
  }

  /** Removes the key if it is unchanged since it was read. Returns whether it did. */
  async remove(entry: Entry, reason: string): Promise<boolean> {
    const { store, key, log } = this.#options
    const when = [{ key, modified: entry.modified }]
    const { succeeded } = await store.commit({ when, apply: [{ type: 'delete', key }] })
    if (succeeded)
      log.warn('removed a leader key that no instance holds', { key, ...describeKey(entry), reason })
    return succeeded
  }
}

/** A leader key for the log, shortened: it may be written by hand. */
export function describeKey({ value, lease }: Entry): {
  readonly value: string
  readonly lease: string | null
} {
  return { value: value.slice(0, 100), lease }
}
