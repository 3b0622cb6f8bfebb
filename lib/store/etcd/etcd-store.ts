import type { Clock } from '../../shared/clock.ts'
import type { Condition } from '../condition.ts'
import { checkPrefix, checkTransaction } from '../limits.ts'
import {
  type Committed,
  type Entry,
  type Lease,
  type Member,
  type Store,
  StoreError,
  type Transaction,
  type Watch,
  type WatchHandler,
} from '../store.ts'
import { alarmIn } from './etcd-errors.ts'
import { EtcdLink, type EtcdOptions } from './etcd-link.ts'
import { EtcdWatch } from './etcd-watch.ts'
import type { EtcdClient } from './etcd3.ts'

/**
 * The store in etcd. A call ends within a second as long as etcd is prompt (`CallDeadlines`), a list within that time for
 * each page.
 */
export class EtcdStore implements Store {
  readonly kind = 'etcd'
  readonly endpoints: readonly string[]
  readonly #clock: Clock
  readonly #link: EtcdLink
  readonly #watches = new Set<EtcdWatch>()

  constructor(options: EtcdOptions) {
    this.endpoints = options.endpoints
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
    return this.#link.call('get', 'read', (client) => client.get(key))
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: bigint }> {
    checkPrefix(prefix)
    return this.#link.call('list', 'read', (client) => client.list(prefix))
  }

  async newest(prefix: string): Promise<{ count: number; modified: bigint }> {
    checkPrefix(prefix)
    return this.#link.call('newest', 'read', (client) => {
      void this.#lookForAlarms(client)
      return client.newest(prefix)
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
    const { apply } = transaction
    const effect = apply.length === 0 ? 'read' : apply.some(({ type }) => type === 'put') ? 'write' : 'other'
    return this.#link.call('commit', effect, (client) => client.commit(transaction))
  }

  grant(ttlMs: number): Promise<Lease> {
    return this.#link.call('grant', 'other', async (client) => {
      const lease = await client.grant(ttlMs)
      this.#link.granted(lease.ttlMs)
      return lease
    })
  }

  renew(lease: string): Promise<number> {
    return this.#link.call('renew', 'other', async (client) => {
      const remainingMs = await client.keepAlive(lease)
      if (remainingMs <= 0) throw new StoreError('no-lease', `lease ${lease} does not exist`)
      return remainingMs
    })
  }

  async revoke(lease: string): Promise<void> {
    try {
      await this.#link.call('revoke', 'other', (client) => client.revoke(lease))
    } catch (error) {
      if (!(error instanceof StoreError && error.fault === 'no-lease')) throw error
    }
  }

  members(): Promise<Member[]> {
    return Promise.all(this.endpoints.map((endpoint) => this.#askMember(endpoint)))
  }

  sharedBy(instances: number): void {
    this.#link.sharedBy(instances)
  }

  async close(): Promise<void> {
    this.#link.close()
    for (const watch of [...this.#watches]) watch.close()
  }

  /** Asks one member for itself, over a connection of its own: the store's may be to another. */
  async #askMember(endpoint: string): Promise<Member> {
    let client: EtcdClient | null = null
    try {
      client = this.#link.clientOf(endpoint)
      return { name: await client.memberName(), endpoint, ok: true }
    } catch {
      return { name: '', endpoint, ok: false } // down or unreachable: that is the answer
    } finally {
      client?.close()
    }
  }

  /**
   * A member tells its alarms in its status, which costs the cluster nothing. With it, an instance that writes nothing
   * learns of them too, within the ten seconds between two calls of `newest` by a follower.
   */
  async #lookForAlarms(client: EtcdClient): Promise<void> {
    const { condition } = this.#link
    try {
      const trouble = alarmIn(await client.alarms())
      if (trouble) condition.refused(trouble)
      else condition.cleared('no-space', 'corrupt')
    } catch {
      // The member is down, or its status is not for us: refused calls tell of alarms too.
    }
  }
}
