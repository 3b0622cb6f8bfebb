import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'
const preload = `--import ${new URL('../support/wall-clock.ts', import.meta.url)}`
/** Milliseconds: a leader that were not renewed after either jump would have stepped down in two of them. */
const settleMs = 3000
/** Milliseconds: somewhat below the deadline of an instance's calls. A pause of this machine's own is rightly told. */
const toldPauseMs = 600

suite('an instance whose wall clock jumps', () => {
  let etcd: Etcd
  let node: SimulatedNode
  let instance: InstanceProcess
  before(async () => {
    etcd = await startEtcd()
    node = await SimulatedNode.start({ name: 'n', models })
    instance = await InstanceProcess.start('a', { LLAMERO_ETCD: etcd.endpoint, NODE_OPTIONS: preload })
    await etcdctl(etcd.endpoint, 'put', `${root}nodes/n`, `url: ${node.url}`)
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it routes', 10_000)
    await until(async () => (await fetch(`${instance.adminUrl}/leader`)).ok, 'it leads', 5000)
  })
  after(async () => {
    await instance.stop()
    await node.stop()
    await etcd.stop()
  })

  /** Term, lease and creation of the keys that a lease keeps alive. */
  const held = async () => {
    const keys = ['leader', 'instances/a'].map((key) =>
      etcdctl(etcd.endpoint, 'get', root + key, '--write-out=json'),
    )
    return (await Promise.all(keys)).map((text) => {
      const [kv] = JSON.parse(text).kvs as { create_revision: number; lease: number }[]
      return [kv?.create_revision, kv?.lease]
    })
  }
  const hoursAhead = () => {
    const timestamp = [...instance.log.matchAll(/"timestamp":"([^"]+)"/g)].at(-1)?.[1] ?? ''
    return Math.round((Date.parse(timestamp) - Date.now()) / 3_600_000)
  }

  for (const hours of [1, -1]) {
    test(`to ${hours} h ahead leads on, loses no lease, follows etcd and fails no request`, async () => {
      const before = await held()
      const logged = instance.log.length
      await using pause = new EtcdPauses(etcd.endpoint)
      await using load = new Load(() => [instance.url], 'm:1b', 1)
      instance.signal('SIGUSR2')
      await sleep(settleMs)
      await etcdctl(
        etcd.endpoint,
        'put',
        `${root}routes/r${hours}`,
        `{match: {model: "x${hours}*"}, model: "m:1b"}`,
      )
      await until(async () => (await askOnce(instance.url, `x${hours}`)) === null, 'the route works', 1000)
      await load.stop()
      assert.equal(hoursAhead(), hours)
      assert.deepEqual(await held(), before)
      assert.ok((await fetch(`${instance.adminUrl}/leader`)).ok)
      const pauseMs = await pause.longest()
      const alarms = instance.log.slice(logged).match(/.*"level":"(?:warn|error)".*/g) ?? []
      const unfounded =
        pauseMs < toldPauseMs ? alarms : alarms.filter((line) => !/etcd (does|did) not answer/.test(line))
      assert.deepEqual(unfounded, [], `etcd kept a writer waiting for ${Math.round(pauseMs)} ms`)
      assert.deepEqual(load.failures, [])
      assert.ok(load.completed > 10, `${load.completed} requests`)
    })
  }
})

/** Writes to etcd all the time, and knows how long it, or the machine, kept the writer waiting. */
class EtcdPauses {
  readonly #stop = new AbortController()
  readonly #done: Promise<number>

  constructor(endpoint: string) {
    this.#done = this.#watch(endpoint)
  }

  async #watch(endpoint: string): Promise<number> {
    const body = JSON.stringify({ key: btoa('/test/pause'), value: '' })
    let longest = 0
    while (!this.#stop.signal.aborted) {
      const started = performance.now()
      await (await fetch(`${endpoint}/v3/kv/put`, { method: 'POST', body })).arrayBuffer()
      await sleep(20)
      longest = Math.max(longest, performance.now() - started)
    }
    return longest
  }

  /** Ends the watch; milliseconds. */
  longest(): Promise<number> {
    this.#stop.abort()
    return this.#done
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.longest()
  }
}
