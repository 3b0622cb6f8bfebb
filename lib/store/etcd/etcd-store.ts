import {
  CompareTarget,
  type Etcd3,
  type ICompare,
  type IRangeRequest,
  type IRequestOp,
  type ITxnResponse,
  Range,
  SortOrder,
  SortTarget,
} from 'etcd3'
import type { Clock } from '../../shared/clock.ts'
import type { Condition } from '../condition.ts'
import { checkPrefix, checkTransaction } from '../limits.ts'
import {
  type Committed,
  type Compare,
  type Entry,
  type Lease,
  type Member,
  type Operation,
  type Store,
  StoreError,
  type Transaction,
  type Watch,
  type WatchHandler,
} from '../store.ts'
import { entryOf } from './etcd-entry.ts'
import { alarmIn } from './etcd-errors.ts'
import { keepAlive } from './etcd-lease.ts'
import { EtcdLink, type EtcdOptions } from './etcd-link.ts'
import { askMember } from './etcd-member.ts'
import { EtcdWatch } from './etcd-watch.ts'

/** Entries per page of a list: a page has to fit into one message and one deadline. */
const pageSize = 500

/**
 * The store in etcd. Of the package `etcd3` it uses the wire only: its Election, Lease, Watcher and Lock lose events and
 * elect two leaders (docs/etcd.md#what-of-etcd3-is-used). A call ends within a second as long as
 * etcd is prompt (`Patience`), a list within that time for each page.
 */
export class EtcdStore implements Store {
  readonly kind = 'etcd'
  readonly #endpoints: readonly string[]
  readonly #clock: Clock
  readonly #link: EtcdLink
  readonly #watches = new Set<EtcdWatch>()

  constructor(options: EtcdOptions) {
    this.#endpoints = options.endpoints
    this.#clock = options.clock
    this.#link = new EtcdLink(options)
  }

  get condition(): Condition {
    return this.#link.condition
  }

  get deadlineMs(): number {
    return this.#link.deadlineMs
  }

  get(key: string): Promise<Entry | null> {
    return this.#link.call('get', 'read', async ({ kv }) => {
      const { kvs } = await kv.range({ key: Buffer.from(key) })
      return kvs[0] ? entryOf(kvs[0]) : null
    })
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: bigint }> {
    checkPrefix(prefix)
    return this.#link.call('list', 'read', (client) => listAll(client, prefix))
  }

  async newest(prefix: string): Promise<{ count: number; modified: bigint }> {
    checkPrefix(prefix)
    return this.#link.call('newest', 'read', async ({ kv, maintenance }) => {
      void this.#lookForAlarms(maintenance)
      const { count, kvs } = await kv.range({
        ...rangeOf(prefix),
        limit: 1,
        keys_only: true,
        sort_target: SortTarget.Mod,
        sort_order: SortOrder.Descend,
      })
      return { count: Number(count), modified: BigInt(kvs[0]?.mod_revision ?? 0) }
    })
  }

  async watch(prefix: string, from: bigint, handler: WatchHandler): Promise<Watch> {
    checkPrefix(prefix)
    return this.#link.call('watch', 'read', async (client) => {
      const told: WatchHandler = {
        changed: (changes, revision) => handler.changed(changes, revision),
        broken: (reason, error) => {
          this.#link.lost(client, error)
          handler.broken(reason, error)
        },
      }
      const request = { prefix, from, handler: told }
      const watch = await EtcdWatch.open(client, request, this.#clock, this.#link.deadlineMs, this.#watches)
      if (this.#link.closed) watch.close()
      return watch
    })
  }

  async commit(transaction: Transaction): Promise<Committed> {
    checkTransaction(transaction)
    const { when, apply, otherwise = [] } = transaction
    const effect = apply.length === 0 ? 'read' : apply.some(({ type }) => type === 'put') ? 'write' : 'other'
    return this.#link.call('commit', effect, async ({ kv }) =>
      committedOf(
        await kv.txn({
          compare: when.map(comparison),
          success: apply.map(request),
          failure: otherwise.map((key) => ({ request_range: { key: Buffer.from(key) } })),
        }),
      ),
    )
  }

  grant(ttlMs: number): Promise<Lease> {
    return this.#link.call('grant', 'other', async ({ leaseClient }) => {
      const { ID, TTL } = await leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1000) })
      const lease = { id: ID, ttlMs: Number(TTL) * 1000 }
      this.#link.granted(lease.ttlMs)
      return lease
    })
  }

  renew(lease: string): Promise<number> {
    return this.#link.call('renew', 'other', async (client) => {
      const remainingMs = await keepAlive(client, lease)
      if (remainingMs <= 0) throw new StoreError('no-lease', `lease ${lease} does not exist`)
      return remainingMs
    })
  }

  async revoke(lease: string): Promise<void> {
    try {
      await this.#link.call('revoke', 'other', ({ leaseClient }) => leaseClient.leaseRevoke({ ID: lease }))
    } catch (error) {
      if (!(error instanceof StoreError && error.fault === 'no-lease')) throw error
    }
  }

  members(): Promise<Member[]> {
    const connect = (endpoint: string) => this.#link.clientOf(endpoint)
    return Promise.all(this.#endpoints.map((endpoint) => askMember(endpoint, connect)))
  }

  sharedBy(instances: number): void {
    this.#link.sharedBy(instances)
  }

  /**
   * A member tells its alarms in its status, which costs the cluster nothing. With it, also an instance that writes nothing
   * learns of them, within the ten seconds after which a follower looks for `newest` again.
   */
  async #lookForAlarms(maintenance: Etcd3['maintenance']): Promise<void> {
    const { condition } = this.#link
    try {
      const { errors } = await maintenance.status()
      const trouble = alarmIn(errors)
      if (trouble) condition.refused(trouble)
      else condition.cleared('no-space', 'corrupt')
    } catch {
      // Down, or not ours to ask: refusals tell, too.
    }
  }

  async close(): Promise<void> {
    this.#link.close()
    for (const watch of [...this.#watches]) watch.close()
  }
}

/** Pages at the revision of the first one: together they are one moment. */
async function listAll({ kv }: Etcd3, prefix: string): Promise<{ entries: Entry[]; revision: bigint }> {
  const entries: Entry[] = []
  const range = rangeOf(prefix)
  let page = await kv.range({ ...range, limit: pageSize })
  const { revision } = page.header
  for (;;) {
    for (const kv of page.kvs) entries.push(entryOf(kv))
    const last = page.kvs.at(-1)
    if (!page.more || !last) return { entries, revision: BigInt(revision) }
    // The smallest key after the last one.
    const key = Buffer.concat([last.key, Buffer.of(0)])
    page = await kv.range({ ...range, key, limit: pageSize, revision })
  }
}

function rangeOf(prefix: string): IRangeRequest {
  const { start, end } = Range.prefix(prefix)
  return { key: start, range_end: end }
}

function comparison(compare: Compare): ICompare {
  const key = Buffer.from(compare.key)
  if ('created' in compare)
    return { key, target: CompareTarget.Create, create_revision: String(compare.created) }
  if ('modified' in compare) return { key, target: CompareTarget.Mod, mod_revision: String(compare.modified) }
  if ('value' in compare) return { key, target: CompareTarget.Value, value: Buffer.from(compare.value) }
  return { key, target: CompareTarget.Lease, lease: compare.lease }
}

function request(operation: Operation): IRequestOp {
  const key = Buffer.from(operation.key)
  if (operation.type === 'delete') return { request_delete_range: { key } }
  const { value, lease } = operation
  return { request_put: { key, value: Buffer.from(value), ...(lease !== undefined && { lease }) } }
}

function committedOf({ succeeded, header, responses }: ITxnResponse): Committed {
  const found = succeeded ? [] : responses.map(({ response_range }) => response_range.kvs[0])
  return {
    succeeded,
    revision: BigInt(header.revision),
    found: found.map((kv) => (kv ? entryOf(kv) : null)),
  }
}
