import type { Condition } from './condition.ts'

/**
 * The store: where shared state lives. etcd's model and words (revision, lease, transaction, watch), small enough that a
 * single journalled file can offer the same. Revisions are bigints: etcd's are 64 bits wide.
 *
 * Every call either settles within its deadline or rejects with a StoreError.
 */

/** A key's value and its history numbers, as etcd counts them. */
export interface Entry {
  readonly key: string
  readonly value: string
  /** Revision at which the key came into being: a leader key's create revision is its fence. */
  readonly created: bigint
  /** Revision of the last put. */
  readonly modified: bigint
  /** The lease the key lives under, or null. */
  readonly lease: string | null
}

export type Change =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: string; readonly modified: bigint }

/** A condition of a transaction. `created: 0n` means "does not exist"; a key that does not exist has no value and no lease. */
export type Compare = { readonly key: string } & (
  | { readonly created: bigint }
  | { readonly modified: bigint }
  | { readonly value: string }
  | { readonly lease: string }
)

/** Whether a condition holds for the entry of its key. */
export function isMet(compare: Compare, entry: Entry | null): boolean {
  if ('created' in compare) return compare.created === (entry?.created ?? 0n)
  if ('modified' in compare) return compare.modified === (entry?.modified ?? 0n)
  if ('value' in compare) return compare.value === entry?.value
  return compare.lease === entry?.lease
}

export type Operation =
  | { readonly type: 'put'; readonly key: string; readonly value: string; readonly lease?: string }
  | { readonly type: 'delete'; readonly key: string }

export interface Transaction {
  /** All must hold. */
  readonly when: readonly Compare[]
  /** At most 128, all or nothing. */
  readonly apply: readonly Operation[]
  /** Keys read, at the same revision, when a condition failed. */
  readonly otherwise?: readonly string[]
}

export interface Committed {
  readonly succeeded: boolean
  /** The store's revision after the transaction: a fresh key's create revision. */
  readonly revision: bigint
  /** What `otherwise` read, in its order; empty when the transaction succeeded. */
  readonly found: readonly (Entry | null)[]
}

export interface Lease {
  readonly id: string
  /** The TTL granted, which may be longer than asked: etcd's minimum is two seconds. */
  readonly ttlMs: number
}

/** Receives the changes of one watch. After `broken` nothing more comes: list again, then watch again. */
export interface WatchHandler {
  /** Changes in the order of their revisions; `revision` is that of the last. */
  changed(changes: readonly Change[], revision: bigint): void
  /** The stream ended: `compacted` when the start revision is gone, `lost` for anything else. */
  broken(reason: 'compacted' | 'lost', error?: Error): void
}

export interface Watch {
  /** Ends the watch; no handler is called after it. Safe to call twice. */
  close(): void
}

export type StoreFault =
  | 'unavailable' // no answer in time, or no connection: the call may or may not have happened
  | 'no-lease' // the lease named does not exist any more
  | 'denied' // the store refuses: permission, size, quota
  | 'closed'

export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly fault: StoreFault

  constructor(fault: StoreFault, message: string, options?: ErrorOptions) {
    super(message, options)
    this.fault = fault
  }
}

/** One of the servers a store consists of. */
export interface Member {
  /** Its own name, "" while it does not answer. */
  readonly name: string
  readonly endpoint: string
  /** Whether it answered just now. */
  readonly ok: boolean
}

export interface Store {
  /** `etcd` or `embedded`, for people. */
  readonly kind: 'etcd' | 'embedded'
  get(key: string): Promise<Entry | null>
  /** Every entry whose key begins with `prefix` (which must end in "/"), at one revision, in the order of keys. */
  list(prefix: string): Promise<{ readonly entries: readonly Entry[]; readonly revision: bigint }>
  /**
   * A cheap summary of the entries under `prefix`: their number, and the largest `modified` among them (0n when none).
   * The informer compares it with the changes that arrived (docs/etcd.md#informer).
   */
  newest(prefix: string): Promise<{ readonly count: number; readonly modified: bigint }>
  /**
   * Resolves once the watch stands; then every change under `prefix` with a revision >= `from` reaches the handler, the
   * first of them possibly before the promise resolves. For a `from` that is no longer kept, `broken('compacted')` is called.
   */
  watch(prefix: string, from: bigint, handler: WatchHandler): Promise<Watch>
  commit(transaction: Transaction): Promise<Committed>
  grant(ttlMs: number): Promise<Lease>
  /** Renews once. Returns the remaining milliseconds; rejects with `no-lease` when the lease is gone. */
  renew(lease: string): Promise<number>
  /** Ends a lease and deletes its keys. A lease that is already gone is no error. */
  revoke(lease: string): Promise<void>
  /** Asks each member for its own state, within a second; only for a store with members. Never rejects. */
  members?(): Promise<readonly Member[]>
  /** The URLs of its servers; absent for a store without any. */
  readonly endpoints?: readonly string[]
  /** What the store refuses although it answers; absent for a store that never does. */
  readonly condition?: Pick<Condition, 'trouble' | 'onChange'>
  /** Milliseconds after which a call counts as unanswered now; absent where that is always a second. */
  readonly deadlineMs?: number
  /** Sets how many instances use this store: it spreads their reconnects, so that a returning store is not overrun. */
  sharedBy?(instances: number): void
  /** Ends watches and connections. Later calls reject with `closed`. Safe to call twice. */
  close(): Promise<void>
}

/** The largest `modified` of some entries, 0n when there are none: the value that `newest` returns for the store. */
export function newestOf(entries: Iterable<Pick<Entry, 'modified'>>): bigint {
  let newest = 0n
  for (const { modified } of entries) if (modified > newest) newest = modified
  return newest
}
