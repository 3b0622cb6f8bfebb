import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Election } from '../../lib/cluster/election/election.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/processes.ts'

const clock = new RealClock()
const ttlMs = 10_000
/** Milliseconds for which a leader has to lead without a break: several renewals. */
const steadyMs = 6000

/** An instance's part in the election and its copy of the store, over ways that are slow. */
class Candidate implements AsyncDisposable {
  readonly roads: readonly FaultProxy[]
  readonly store: EtcdStore
  readonly informer: Informer
  readonly election: Election
  breaks = 0

  private constructor(key: string, roads: readonly FaultProxy[], endpoints: readonly string[]) {
    this.roads = roads
    this.store = new EtcdStore({ endpoints, clock, log: silentLog })
    const shared = { store: this.store, clock, random: Math.random, log: silentLog }
    this.informer = new Informer({ ...shared, prefix: `/slow/${key}/`, changed() {} })
    this.election = new Election({
      ...shared,
      key: `/slow/${key}/leader`,
      id: 'a',
      ttlMs,
      mayLead: () => true,
      isRegistered: () => true,
      changed: () => {
        if (!this.election.isLeader()) this.breaks++
      },
    })
  }

  static async start(key: string, etcd: Etcd, roads: number, delayMs: number): Promise<Candidate> {
    const proxies = Array.from({ length: roads }, () => new FaultProxy(etcd.endpoint))
    const endpoints = await Promise.all(proxies.map((proxy) => proxy.open()))
    for (const proxy of proxies) proxy.set({ delayMs })
    const candidate = new Candidate(key, proxies, endpoints)
    candidate.informer.start()
    candidate.election.start()
    return candidate
  }

  async leads(withinMs: number): Promise<void> {
    await until(() => this.election.isLeader() && this.informer.following, 'it leads and follows', withinMs)
  }

  /** Fails when it ceases to lead, by its own word or by that of `/leader`. */
  async leadsOn(ms: number): Promise<void> {
    for (const endsAt = clock.now() + ms; clock.now() < endsAt; await sleep(20))
      assert.ok(this.election.isProven && this.breaks === 0, `${this.breaks} breaks`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const road of this.roads) road.heal()
    await this.election.stop()
    await this.informer.stop()
    await this.store.close()
    for (const road of this.roads) await road.close()
  }
}

suite('an etcd that answers slowly', { concurrency: true }, () => {
  let etcd: Etcd
  before(async () => {
    etcd = await startEtcd()
  })
  after(() => etcd.stop())

  for (const [roads, delayMs, withinMs] of [
    [1, 250, 10_000],
    [3, 250, 12_000],
    [1, 500, 12_000],
  ] as const)
    test(`a leader is elected and stays over ${roads} way(s) of ${delayMs} ms each way, and members are seen (306)`, async () => {
      await using candidate = await Candidate.start(`${roads}-${delayMs}`, etcd, roads, delayMs)
      await candidate.leads(withinMs)
      assert.ok(
        (await candidate.store.members()).every(({ ok }) => ok),
        'its members answer',
      )
      await candidate.leadsOn(steadyMs)
    })

  for (const delayMs of [250, 400])
    test(`a leader goes on leading when the network delay becomes ${delayMs} ms each way (306)`, async () => {
      await using candidate = await Candidate.start(`sudden-${delayMs}`, etcd, 1, 0)
      await candidate.leads(5000)
      for (const road of candidate.roads) road.set({ delayMs })
      for (const endsAt = clock.now() + steadyMs; clock.now() < endsAt; await sleep(20))
        assert.equal(candidate.breaks, 0)
      await candidate.leadsOn(2000)
    })

  test('a healthy endpoint is found with short deadlines beside one that hangs (306)', async () => {
    await using candidate = await Candidate.start('one-hangs', etcd, 2, 0)
    candidate.roads[0]?.set({ accept: 'silent' })
    await candidate.leads(4000)
  })
})
