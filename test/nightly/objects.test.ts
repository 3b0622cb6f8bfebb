import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { after, before, test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd.ts'
import { Informer } from '../../lib/store/informer.ts'
import type { Operation } from '../../lib/store/store.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/processes.ts'

const clock = new RealClock()
const prefix = '/llamero/test/'
const objects = 5000
const relists = 10

let etcd: Etcd
let proxy: FaultProxy
let store: EtcdStore
let writer: EtcdStore
before(async () => {
  etcd = await startEtcd()
  proxy = new FaultProxy(etcd.endpoint)
  store = new EtcdStore({ endpoints: [await proxy.open()], clock, log: silentLog })
  writer = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
})
after(async () => {
  await store.close()
  await writer.close()
  await proxy.close()
  await etcd.stop()
})

test(`${objects} objects: start within a second, relist within 200 ms, event loop free meanwhile`, async (test) => {
  for (let first = 0; first < objects; first += 100) {
    const apply = Array.from({ length: 100 }, (_, n): Operation => {
      const name = `node-${first + n}`
      const value = JSON.stringify({ url: `http://${name}:11434`, labels: { rack: 'x'.repeat(120) } })
      return { type: 'put', key: `${prefix}nodes/${name}`, value }
    })
    await writer.commit({ when: [], apply })
  }
  const lag = monitorEventLoopDelay({ resolution: 1 })
  const informer = new Informer({ store, prefix, clock, dice: Math.random, log: silentLog, changed() {} })
  lag.enable()
  const startedAt = performance.now()
  informer.start()
  await until(() => informer.following, 'the first list', 5000)
  const startMs = performance.now() - startedAt
  assert.equal(informer.entries.size, objects)

  const relistMs: number[] = []
  for (let relist = 0; relist < relists; relist++) {
    const listedAt = performance.now()
    const { entries } = await store.list(prefix)
    relistMs.push(performance.now() - listedAt)
    assert.equal(entries.length, objects)
    proxy.drop()
    await until(() => !informer.following, 'the break', 1000)
    await until(() => informer.following, 'the watch after it', 5000)
  }
  lag.disable()
  await informer.stop()

  relistMs.sort((a, b) => a - b)
  const medianMs = relistMs[relists / 2] ?? 0
  const p99Ms = lag.percentile(99) / 1e6
  test.diagnostic(
    `start ${startMs.toFixed()} ms, list ${medianMs.toFixed()} ms, lag p99 ${p99Ms.toFixed(1)} ms`,
  )
  assert.ok(startMs <= 1000 && medianMs <= 200 && p99Ms < 50)
})
