import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { eventually } from '../suites/store-contract.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'

const clock = new RealClock()
const prefix = '/llamero/test/'

describe('the informer on etcd', () => {
  let etcd: Etcd
  let road: FaultProxy
  let store: EtcdStore
  let writer: EtcdStore
  let informer: Informer
  let metrics: Metrics
  let reported: Set<string>

  before(async () => {
    etcd = await startEtcd()
  })
  after(() => etcd.stop())

  beforeEach(async () => {
    road = new FaultProxy(etcd.endpoint)
    store = new EtcdStore({ endpoints: [await road.open()], clock, log: silentLog })
    writer = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
    metrics = new Metrics()
    reported = new Set()
    informer = new Informer({
      store,
      prefix,
      clock,
      random: Math.random,
      log: silentLog,
      metrics,
      changed: (keys) => {
        for (const key of keys) reported.add(key)
      },
    })
    await put('a', 'first')
    informer.start()
    await eventually('the first list', () => reported.size > 0)
  })
  afterEach(async () => {
    await informer.stop()
    await store.close()
    await writer.close()
    await road.close()
  })

  const put = (name: string, value: string) =>
    writer.commit({ when: [], apply: [{ type: 'put', key: `${prefix}${name}`, value }] })
  const remove = (name: string) =>
    writer.commit({ when: [], apply: [{ type: 'delete', key: `${prefix}${name}` }] })

  /** Waits until the informer has what etcd has. */
  const converge = async () => {
    const { entries } = await writer.list(prefix)
    const truth = new Map(entries.map((entry) => [entry.key, entry]))
    await eventually('the informer to have what etcd has', () => {
      if (informer.entries.size !== truth.size) return false
      return [...truth].every(([key, { modified }]) => informer.entries.get(key)?.modified === modified)
    })
    assert.deepEqual(new Map(informer.entries), truth)
  }
  const relists = async () =>
    (await metrics.relists.get()).values.map(({ labels, value }) => `${labels.reason} ${value}`)

  it('sees a put by hand within a second', async () => {
    const startedMs = performance.now()
    await etcdctl(etcd.endpoint, 'put', `${prefix}by-hand`, 'v')
    await eventually('the key', () => reported.has(`${prefix}by-hand`), 1000 + performance.now() - startedMs)
    assert.equal(informer.entries.get(`${prefix}by-hand`)?.value, 'v')
  })

  it('sees changes of the time in which it was cut off', async () => {
    await put('gone', '')
    await put('changed', 'before')
    await converge()
    reported.clear()
    road.cut()
    await put('changed', 'after')
    await put('new', '')
    await remove('gone')
    road.heal()
    await converge()
    await eventually('the report', () => reported.size === 3)
    assert.deepEqual(await relists(), ['lost 1'])
  })

  it('sees changes of the time in which it was cut off and etcd was compacted', async () => {
    road.cut()
    for (let n = 0; n < 20; n++) await put('a', String(n))
    await remove('a')
    const { revision } = await put('b', 'after')
    await etcdctl(etcd.endpoint, 'compaction', String(revision))
    road.heal()
    await converge()
    await put('c', '')
    await converge()
  })

  it('converges when it is cut off again and again at any moment of its recovery', async () => {
    for (let round = 0; round < 15; round++) {
      road.cut()
      await put('a', `cut ${round}`)
      road.heal()
      await sleep(round * 7)
      await put(`healed-${round % 4}`, String(round))
      if (round % 3 === 0) await remove(`healed-${(round + 1) % 4}`)
    }
    await converge()
  })

  it('keeps its copy while etcd is dead, and follows again when etcd is back', async () => {
    const known = new Map(informer.entries)
    await etcd.kill('SIGKILL')
    await sleep(1500)
    assert.deepEqual(new Map(informer.entries), known)
    assert.ok(clock.now() - (informer.lastContactMs ?? 0) > 1000)
    await etcd.restart()
    await eventually('the way back', () => clock.now() - (informer.lastContactMs ?? 0) < 500, 5000)
    await put('a', 'after the restart')
    await converge()
  })
})
