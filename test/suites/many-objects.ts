import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { TestContext } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import type { Operation } from '../../lib/store/store.ts'
import { startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/processes.ts'
import { starvedMs } from '../support/starvation.ts'

const clock = new RealClock()
const prefix = '/llamero/test/'
const objects = 5000

/**
 * Asserts that an informer of 5,000 objects starts within a second, that a list takes 200 ms in the median, and that 99
 * of 100 turns of the event loop come less than 50 ms late meanwhile.
 */
export async function followsManyObjects(test: TestContext, relists: number): Promise<void> {
  await using resources = new AsyncDisposableStack()
  const closing = <T extends { close(): Promise<void> }>(it: T) => resources.adopt(it, (it) => it.close())
  const etcd = resources.adopt(await startEtcd(), (it) => it.stop())
  const proxy = closing(new FaultProxy(etcd.endpoint))
  const store = closing(new EtcdStore({ endpoints: [await proxy.open()], clock, log: silentLog }))
  const writer = closing(new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog }))
  await fill(writer)
  const lag = monitorEventLoopDelay({ resolution: 1 })
  const informer = resources.adopt(
    new Informer({ store, prefix, clock, random: Math.random, log: silentLog, changed() {} }),
    (it) => it.stop(),
  )
  lag.enable()
  const startMs = await spent(async () => {
    informer.start()
    await until(() => informer.following, 'the first list', 5000)
  })
  assert.equal(informer.entries.size, objects)

  const relistMs: number[] = []
  for (let relist = 0; relist < relists; relist++) {
    relistMs.push(await spent(async () => assert.equal((await store.list(prefix)).entries.length, objects)))
    proxy.drop()
    await until(() => !informer.following, 'the break', 1000)
    await until(() => informer.following, 'the watch after it', 5000)
  }
  lag.disable()

  relistMs.sort((a, b) => a - b)
  const medianMs = relistMs[Math.floor(relists / 2)] ?? 0
  const p99Ms = lag.percentile(99) / 1e6
  test.diagnostic(
    `start ${startMs.toFixed()} ms, list ${medianMs.toFixed()} ms, lag p99 ${p99Ms.toFixed(1)} ms`,
  )
  assert.ok(startMs <= 1000 && medianMs <= 200 && p99Ms < 50)
}

async function fill(store: EtcdStore): Promise<void> {
  for (let first = 0; first < objects; first += 100) {
    const apply = Array.from({ length: 100 }, (_, n): Operation => {
      const name = `node-${first + n}`
      const value = JSON.stringify({ url: `http://${name}:11434`, labels: { rack: 'x'.repeat(120) } })
      return { type: 'put', key: `${prefix}nodes/${name}`, value }
    })
    await store.commit({ when: [], apply })
  }
}

/** Milliseconds that `task` takes on a machine that has a core for this process. */
async function spent(task: () => Promise<void>): Promise<number> {
  const [since, starved] = [performance.now(), starvedMs(process.pid)]
  await task()
  return performance.now() - since - (starvedMs(process.pid) - starved)
}
