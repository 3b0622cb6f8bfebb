import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulator/models.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'
const preload = `--import ${new URL('../support/wall-clock.ts', import.meta.url)}`
/** Milliseconds: a leader that were not renewed after either jump would have stepped down in two of them. */
const settleMs = 3000

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
      assert.doesNotMatch(instance.log.slice(logged), /"level":"(warn|error)"/)
      assert.deepEqual(load.failures, [])
      assert.ok(load.completed > 10, `${load.completed} requests`)
    })
  }
})
