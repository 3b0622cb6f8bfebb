import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import type { Random } from '../../lib/shared/random.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import type { Entry, Operation } from '../../lib/store/store.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { patiently } from '../support/patiently.ts'

const prefix = '/llamero/campaign/'
const clock = new RealClock()

interface Follower {
  readonly proxy: FaultProxy
  readonly store: EtcdStore
  readonly informer: Informer
  readonly metrics: Metrics
}

/** One etcd, a writer beside it, and informers that each reach it over a proxy of their own. */
export class Campaign {
  readonly etcd: Etcd
  readonly #dir: string
  readonly #writer: EtcdStore
  readonly #followers: readonly Follower[]
  readonly #random: Random
  #compactedAt = 0n

  private constructor(etcd: Etcd, dir: string, followers: readonly Follower[], random: Random) {
    this.etcd = etcd
    this.#dir = dir
    this.#writer = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
    this.#followers = followers
    this.#random = random
  }

  static async start(random: Random, informers = 3): Promise<Campaign> {
    const dir = await mkdtemp(join(tmpdir(), 'llamero-campaign-'))
    const etcd = await startEtcd({ dir })
    const followers = await Promise.all(
      Array.from({ length: informers }, () => startFollower(etcd.endpoint, random)),
    )
    const campaign = new Campaign(etcd, dir, followers, random)
    await campaign.converge(3000)
    return campaign
  }

  async stop(): Promise<void> {
    for (const { informer, store, proxy } of this.#followers) {
      await informer.stop()
      await store.close()
      await proxy.close()
    }
    await this.#writer.close()
    await this.etcd.stop()
  }

  get proxies(): readonly FaultProxy[] {
    return this.#followers.map(({ proxy }) => proxy)
  }

  /** A number from 0 to below `limit`. */
  draw(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  /** All of them in one transaction, each with a random value. */
  put(...names: readonly string[]): Promise<void> {
    return this.#apply(
      names.map((name) => ({ type: 'put', key: keyOf(name), value: String(this.draw(1e9)) })),
    )
  }

  remove(...names: readonly string[]): Promise<void> {
    return this.#apply(names.map((name) => ({ type: 'delete', key: keyOf(name) })))
  }

  /** Random puts and deletes, one at a time, over few names: most of them change what is there. */
  async churn(changes: number): Promise<void> {
    for (let n = 0; n < changes; n++) {
      const name = `churn/${this.draw(12)}`
      await (this.draw(3) === 0 ? this.remove(name) : this.put(name))
    }
  }

  /** A key that vanishes with its lease. */
  async putLeased(name: string): Promise<() => Promise<void>> {
    const { id } = await patiently(() => this.#writer.grant(10_000))
    await this.#apply([{ type: 'put', key: keyOf(name), value: '', lease: id }])
    return () => this.#writer.revoke(id)
  }

  async compact(): Promise<void> {
    const { revision } = await patiently(() => this.#writer.list(prefix))
    // etcd refuses to do it twice, as when nothing has changed in between.
    if (revision === this.#compactedAt) return
    this.#compactedAt = revision
    await etcdctl(this.etcd.endpoint, 'compaction', String(revision))
  }

  /** Puts an empty etcd in the place of this one: its revisions begin anew. */
  async wipe(): Promise<void> {
    await this.etcd.kill('SIGKILL')
    await rm(this.#dir, { recursive: true })
    await this.etcd.restart()
  }

  /** Waits until the writer reaches etcd again. */
  async reachable(): Promise<void> {
    while (!(await this.#writer.list(prefix).catch(() => null))) await sleep(20)
  }

  /**
   * Returns the milliseconds until each informer has exactly what a linearizable list says; nothing may be written
   * meanwhile. Fails after `withinMs`, with the difference.
   */
  async converge(withinMs: number): Promise<number> {
    const startedAt = clock.now()
    await this.reachable()
    const { entries } = await patiently(() => this.#writer.list(prefix))
    const truth = spoken(entries)
    const copies = () => this.#followers.map(({ informer }) => spoken(informer.entries.values()))
    const differs = () => copies().some((copy) => copy.join('\n') !== truth.join('\n'))
    while (differs() && clock.now() - startedAt < withinMs) await sleep(5)
    for (const copy of copies()) assert.deepEqual(copy, truth)
    return clock.now() - startedAt
  }

  /** Waits until each informer sees changes as they happen. */
  async following(): Promise<void> {
    while (this.#followers.some(({ informer }) => !informer.following)) await sleep(5)
  }

  /** How often each informer has listed anew. */
  relists(): Promise<number[]> {
    return Promise.all(
      this.#followers.map(async ({ metrics }) =>
        (await metrics.relists.get()).values.reduce((sum, { value }) => sum + value, 0),
      ),
    )
  }

  async #apply(operations: readonly Operation[]): Promise<void> {
    await patiently(() => this.#writer.commit({ when: [], apply: operations }))
  }
}

function keyOf(name: string): string {
  return `${prefix}${name}`
}

async function startFollower(endpoint: string, random: Random): Promise<Follower> {
  const proxy = new FaultProxy(endpoint)
  const store = new EtcdStore({ endpoints: [await proxy.open()], clock, log: silentLog })
  const metrics = new Metrics()
  const informer = new Informer({ store, prefix, clock, random, log: silentLog, metrics, changed() {} })
  informer.start()
  return { proxy, store, informer, metrics }
}

function spoken(entries: Iterable<Entry>): string[] {
  return [...entries].map(({ key, value, modified }) => `${key}=${value} @${modified}`).sort()
}
