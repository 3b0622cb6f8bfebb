import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from '../../lib/cluster/cluster.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/processes.ts'

const many = 50
const mostPerSecond = 30
const clock = new RealClock()
const keys = new KeyLayout('test')

let etcd: Etcd
let proxy: FaultProxy
let endpoint: string
let instances: { readonly store: EtcdStore; readonly cluster: Cluster }[]

before(async () => {
  etcd = await startEtcd()
  proxy = new FaultProxy(etcd.endpoint)
  endpoint = await proxy.open()
  instances = Array.from({ length: many }, (_, n) => anInstance(`i${n}`))
})

after(async () => {
  await Promise.all(instances.map(({ cluster }) => cluster.stop()))
  await Promise.all(instances.map(({ store }) => store.close()))
  await proxy.close()
  await etcd.stop()
})

function anInstance(name: string) {
  const store = new EtcdStore({ endpoints: [endpoint], clock, random: Math.random, log: silentLog })
  const cluster = new Cluster({
    store,
    keys,
    snapshot: new CurrentSnapshot(),
    clock,
    random: Math.random,
    log: silentLog,
    metrics: new Metrics(),
    instance: { name, boot: name, version: '0', data: '', admin: '', started: new Date() },
    load: () => ({ running: {}, queued: 0 }),
  })
  return { store, cluster }
}

const allAreIn = async () =>
  instances.every(({ cluster }) => cluster.following && cluster.view.instances().length === many)

test(`${many} instances that lose etcd connect one after another, and all come back (178)`, async (test) => {
  for (const { cluster } of instances) {
    cluster.start()
    await sleep(20)
  }
  // How long things take is not what is promised: all of them share one process and its cores.
  await until(allAreIn, 'all are registered', 40_000)

  const connects = new ConnectCount(proxy)
  test.after(() => connects.stop())
  proxy.cut()
  await sleep(4000)
  proxy.heal()
  const healedAt = performance.now()
  await until(allAreIn, 'all are back', 40_000)
  const backMs = Math.round(performance.now() - healedAt)
  const most = connects.stop()
  test.diagnostic(`at most ${most} connects in a second, all back after ${backMs} ms`)
  assert.ok(most <= mostPerSecond, `${most} connects in one second`)
})

/** Counts the connections accepted, refused ones too. */
class ConnectCount {
  readonly #proxy: FaultProxy
  readonly #samples: { readonly at: number; readonly accepted: number }[] = []
  readonly #timer: NodeJS.Timeout

  constructor(proxy: FaultProxy) {
    this.#proxy = proxy
    this.#timer = setInterval(() => this.#sample(), 10)
    this.#sample()
  }

  /** The most within any second. */
  stop(): number {
    clearInterval(this.#timer)
    this.#sample()
    const counts = this.#samples.map(({ at, accepted }) => {
      const later = this.#samples.filter((sample) => sample.at <= at + 1000)
      return (later.at(-1)?.accepted ?? accepted) - accepted
    })
    return Math.max(...counts)
  }

  #sample(): void {
    this.#samples.push({ at: performance.now(), accepted: this.#proxy.accepted })
  }
}
