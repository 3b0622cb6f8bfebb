import type { Clock } from '../../lib/shared/clock.ts'
import {
  type Change,
  type Committed,
  type Entry,
  isMet,
  type Lease,
  type Operation,
  type Store,
  StoreError,
  type Transaction,
  type Watch,
  type WatchHandler,
} from '../../lib/store/store.ts'

interface Watcher {
  readonly prefix: string
  readonly handler: WatchHandler
  readonly link: Link
}

/** A store in memory on a virtual clock, reached over links that can fail one by one. */
export class MemoryStore {
  readonly clock: Clock
  readonly entries = new Map<string, Entry>()
  revision = 0n
  readonly #leases = new Map<string, { ttlMs: number; cancel: () => void }>()
  readonly #watchers = new Set<Watcher>()
  #history: { readonly changes: readonly Change[]; readonly revision: bigint }[] = []
  #granted = 0

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** What an operator does with etcdctl. */
  put(key: string, value: string): void {
    this.commit({ when: [], apply: [{ type: 'put', key, value }] })
  }

  delete(key: string): void {
    this.commit({ when: [], apply: [{ type: 'delete', key }] })
  }

  /** Another store in the place of this one: as a backup has it, leases included, or an empty one. */
  restore(entries: readonly Entry[] = [], revision = 0n): void {
    const kept = new Set(entries.map(({ lease }) => lease))
    for (const [id, { cancel }] of this.#leases) {
      if (kept.has(id)) continue
      cancel()
      this.#leases.delete(id)
    }
    this.entries.clear()
    for (const entry of entries) this.entries.set(entry.key, entry)
    this.#history = []
    this.revision = revision
    const watchers = [...this.#watchers]
    this.#watchers.clear()
    for (const { handler } of watchers) handler.broken('lost')
  }

  value(key: string): string | undefined {
    return this.entries.get(key)?.value
  }

  commit({ when, apply, otherwise = [] }: Transaction): Committed {
    const isAccepted = when.every((compare) => isMet(compare, this.entries.get(compare.key) ?? null))
    if (!isAccepted) {
      return {
        succeeded: false,
        revision: this.revision,
        found: otherwise.map((key) => this.entries.get(key) ?? null),
      }
    }
    this.#apply(apply)
    return { succeeded: true, revision: this.revision, found: [] }
  }

  grant(ttlMs: number): Lease {
    const id = `lease-${++this.#granted}`
    this.#leases.set(id, { ttlMs, cancel: this.clock.after(ttlMs, () => this.revoke(id)) })
    return { id, ttlMs }
  }

  renew(id: string): number {
    const lease = this.#leases.get(id)
    if (!lease) throw new StoreError('no-lease', 'no such lease')
    lease.cancel()
    lease.cancel = this.clock.after(lease.ttlMs, () => this.revoke(id))
    return lease.ttlMs
  }

  revoke(id: string): void {
    this.#leases.get(id)?.cancel()
    this.#leases.delete(id)
    const orphans = [...this.entries.values()].filter(({ lease }) => lease === id)
    this.#apply(orphans.map(({ key }) => ({ type: 'delete', key })))
  }

  watch(watcher: Watcher, from: bigint): Watch {
    for (const { changes, revision } of this.#history) if (revision >= from) tell(watcher, changes, revision)
    this.#watchers.add(watcher)
    return { close: () => this.#watchers.delete(watcher) }
  }

  #apply(operations: readonly Operation[]): void {
    const lost = operations.find((operation) => operation.type === 'put' && !this.#isAlive(operation.lease))
    if (lost) throw new StoreError('no-lease', 'no such lease')
    const revision = this.revision + 1n
    const changes: Change[] = []
    for (const operation of operations) {
      const { key } = operation
      if (operation.type === 'put') {
        const created = this.entries.get(key)?.created ?? revision
        const entry = {
          key,
          value: operation.value,
          created,
          modified: revision,
          lease: operation.lease ?? null,
        }
        this.entries.set(key, entry)
        changes.push({ type: 'put', entry })
      } else if (this.entries.delete(key)) changes.push({ type: 'delete', key, modified: revision })
    }
    if (changes.length === 0) return
    this.revision = revision
    this.#history.push({ changes, revision })
    for (const watcher of this.#watchers) tell(watcher, changes, revision)
  }

  #isAlive(lease: string | undefined): boolean {
    return lease === undefined || this.#leases.has(lease)
  }
}

function tell({ prefix, handler, link }: Watcher, changes: readonly Change[], revision: bigint): void {
  const seen = changes.filter((change) => keyOf(change).startsWith(prefix))
  if (seen.length > 0 && !link.isCut) handler.changed(seen, revision)
}

function keyOf(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key
}

const deadlineMs = 1000

/** One client's way to the memory store. A call over a broken link rejects at its deadline of one second. */
export class Link implements Store {
  kind: Store['kind'] = 'embedded'
  readonly #store: MemoryStore
  /** Nothing gets through, either way. */
  isCut = false
  /** The next answers that are lost after the store has acted. */
  answersToLose = 0
  /** How long each way takes, in milliseconds. */
  latencyMs: () => number = () => 0
  /** Told how many instances there are. */
  sharedBy?: NonNullable<Store['sharedBy']>

  constructor(store: MemoryStore) {
    this.#store = store
  }

  get(key: string) {
    return this.#call(() => this.#store.entries.get(key) ?? null)
  }

  list(prefix: string) {
    return this.#call(() => ({ entries: this.#under(prefix), revision: this.#store.revision }))
  }

  newest(prefix: string) {
    return this.#call(() => {
      const entries = this.#under(prefix)
      const revisions = entries.map(({ modified }) => modified).sort((a, b) => (a < b ? -1 : 1))
      return { count: entries.length, modified: revisions.at(-1) ?? 0n }
    })
  }

  watch(prefix: string, from: bigint, handler: WatchHandler) {
    return this.#call(() => this.#store.watch({ prefix, handler, link: this }, from))
  }

  commit(transaction: Transaction) {
    return this.#call(() => this.#store.commit(transaction))
  }

  grant(ttlMs: number) {
    return this.#call(() => this.#store.grant(ttlMs))
  }

  renew(lease: string) {
    return this.#call(() => this.#store.renew(lease))
  }

  revoke(lease: string) {
    return this.#call(() => this.#store.revoke(lease))
  }

  async close() {}

  #under(prefix: string): Entry[] {
    return [...this.#store.entries.values()].filter(({ key }) => key.startsWith(prefix))
  }

  async #call<T>(act: () => T): Promise<T> {
    const { clock } = this.#store
    const sentAt = clock.now()
    await this.#travel()
    if (this.isCut) return this.#timeOut(sentAt)
    const result = act()
    await this.#travel()
    if (this.isCut || this.answersToLose > 0) {
      this.answersToLose = Math.max(0, this.answersToLose - 1)
      return this.#timeOut(sentAt)
    }
    return result
  }

  async #travel(): Promise<void> {
    const ms = this.latencyMs()
    if (ms > 0) await this.#store.clock.sleep(ms)
  }

  async #timeOut(sentAt: number): Promise<never> {
    const { clock } = this.#store
    await clock.sleep(Math.max(0, sentAt + deadlineMs - clock.now()))
    throw new StoreError('unavailable', 'no answer in time')
  }
}
