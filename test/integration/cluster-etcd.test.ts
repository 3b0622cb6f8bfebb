import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from '../../lib/cluster/cluster.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'

const keys = new KeyLayout('test')
const clock = new RealClock()

interface Instance {
  readonly name: string
  readonly snapshot: CurrentSnapshot
  readonly cluster: Cluster
}

let etcd: Etcd
let operator: EtcdStore
let instances: Instance[]
let cleanups: (() => Promise<unknown>)[]

beforeEach(async () => {
  cleanups = []
  etcd = await startEtcd()
  cleanups.push(() => etcd.stop())
  operator = connect()
  instances = ['a', 'b', 'c'].map(anInstance)
  for (const { cluster } of instances) cluster.start()
  await until(
    () => leaders().length === 1 && instances.every(({ cluster }) => cluster.view.instances().length === 3),
    5000,
  )
})

afterEach(async () => {
  for (const clean of cleanups.reverse()) await clean()
})

function connect(): EtcdStore {
  const store = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
  cleanups.push(() => store.close())
  return store
}

function anInstance(name: string): Instance {
  const snapshot = new CurrentSnapshot()
  const cluster = new Cluster({
    store: connect(),
    keys,
    snapshot,
    clock,
    random: Math.random,
    log: silentLog,
    metrics: new Metrics(),
    instance: { name, boot: `boot-of-${name}`, version: '0', data: '', admin: '', started: new Date() },
    load: () => ({ running: {}, queued: 0 }),
    ttlMs: 3000,
  })
  cleanups.push(() => cluster.stop())
  return { name, snapshot, cluster }
}

const leaders = () => instances.filter(({ cluster }) => cluster.isLeader())

/** Milliseconds until the condition holds; fails when that takes longer than `withinMs`. */
async function until(condition: () => boolean, withinMs: number): Promise<number> {
  const startedAt = clock.now()
  while (!condition()) {
    assert.ok(clock.now() - startedAt <= withinMs, `not within ${withinMs} ms: ${condition}`)
    await sleep(2)
  }
  return clock.now() - startedAt
}

const put = (key: string, value: string) =>
  operator.commit({ when: [], apply: [{ type: 'put', key, value }] })

test('three instances agree on one leader; the leader key holds the bare id', async () => {
  const [leader] = leaders()
  assert.equal((await etcdctl(etcd.endpoint, 'get', '--print-value-only', keys.leader)).trim(), leader?.name)
  for (const { cluster } of instances) {
    assert.equal(cluster.view.leader(), leader?.name)
    assert.equal(cluster.view.leaderFence(), leader?.cluster.fence)
  }
  await sleep(4000)
  assert.deepEqual(leaders(), [leader], 'renewals keep it')
})

test('when the leader stops or steps down another one leads within half a second', async () => {
  const [first] = leaders() as [Instance]
  await first.cluster.stop()
  await until(() => leaders().length === 1, 500)
  const [second] = leaders() as [Instance]
  assert.notEqual(second, first)
  await until(() => second.cluster.view.instances().length === 2, 500)
  await second.cluster.stepDown()
  await until(() => leaders().length === 1, 500)
  assert.notEqual(leaders()[0], second)
})

test('a leader named as successor leads within a second, and etcdctl shows both terms', async () => {
  const [former] = leaders() as [Instance]
  const successor = instances.find((instance) => instance !== former) as Instance
  const startedAt = clock.now()
  await former.cluster.stepDown(successor.name)
  await until(() => successor.cluster.isLeader(), 1000 - (clock.now() - startedAt))
  const rows = async () => {
    const path = `${keys.root}history/`
    const printed = await etcdctl(etcd.endpoint, 'get', '--prefix', '--print-value-only', path)
    const lines = printed.split('\n').filter((line) => line !== '')
    return lines.map((row) => JSON.parse(row))
  }
  // Nobody waits for the rows: they are written beside the work, and each look is a process of its own.
  while ((await rows()).length < 2) assert.ok(clock.now() - startedAt < 10_000, 'a row of the new term')
  const terms = (await rows()).sort((a, b) => (a.since < b.since ? -1 : 1))
  assert.deepEqual(
    terms.map(({ instance, why }) => ({ instance, why })),
    [
      { instance: former.name, why: 'it handed leadership over' },
      { instance: successor.name, why: null },
    ],
  )
  assert.equal(terms[0].until, terms[1].since)
})

test('a node put by an operator is up in every snapshot within a second, and statuses survive a change of leaders', async () => {
  const node = await SimulatedNode.start({ name: 'n', models: [aModel({ name: 'tiny:1b' })] })
  cleanups.push(() => node.stop())
  await etcdctl(etcd.endpoint, 'put', keys.node('n'), `url: ${node.url}`)
  const isUp = ({ snapshot }: Instance) => snapshot.get().nodes.get('n')?.available === true
  await until(() => instances.every(isUp), 1000)
  assert.ok(instances.every(({ snapshot }) => snapshot.get().models.has('tiny:1b')))
  const since = instances[0]?.snapshot.get().nodes.get('n')?.status?.since
  const [leader] = leaders() as [Instance]
  const others = instances.filter((instance) => instance !== leader)
  const wentAway = new Set<string>()
  for (const other of others) other.snapshot.onSwap(() => isUp(other) || wentAway.add(other.name))
  await leader.cluster.stop()
  await until(() => leaders().length === 1, 500)
  const fence = String(leaders()[0]?.cluster.fence)
  await until(
    () => others.every(({ snapshot }) => snapshot.get().nodes.get('n')?.status?.fence === fence),
    1000,
  )
  assert.deepEqual([...wentAway], [], 'the node was never out of sight')
  assert.equal(others[0]?.snapshot.get().nodes.get('n')?.status?.since, since)
})

test('a broken route keeps the old one everywhere, and its verdict is readable with etcdctl', async () => {
  await put(keys.route('chat'), 'model: llama3\n')
  const route = ({ snapshot }: Instance) => snapshot.get().routes[0]?.model
  await until(() => instances.every((instance) => route(instance) === 'llama3'), 1000)
  await put(keys.route('chat'), 'match:\n  modle: x\n')
  const rejected = ({ cluster }: Instance) => cluster.rejected()[0]?.key === keys.route('chat')
  await until(() => instances.every(rejected), 1000)
  assert.ok(instances.every((instance) => route(instance) === 'llama3'))
  await sleep(500)
  const path = keys.verdict(keys.route('chat'))
  const verdict = JSON.parse(await etcdctl(etcd.endpoint, 'get', '--print-value-only', path))
  assert.equal(verdict.ok, false)
  assert.deepEqual(verdict.errors[0], {
    path: 'match.modle',
    line: 2,
    message: 'is not a known field',
    hint: 'did you mean "model"?',
  })
  await put(keys.route('chat'), 'model: qwen3\n')
  await until(() => instances.every((instance) => route(instance) === 'qwen3'), 1000)
})

test('without etcd no instance leads and nothing is forgotten; with it back all register and one leads', async () => {
  await put(keys.route('chat'), 'model: llama3\n')
  await until(() => instances.every(({ snapshot }) => snapshot.get().routes.length === 1), 1000)
  await etcd.kill('SIGKILL')
  await until(() => leaders().length === 0, 3000)
  assert.ok(instances.every(({ snapshot }) => snapshot.get().routes.length === 1))
  await sleep(3000)
  await etcd.restart()
  await until(() => leaders().length === 1, 8000)
  await until(() => instances.every(({ cluster }) => cluster.view.instances().length === 3), 3000)
})

test('an etcd that is frozen for longer than a TTL never sees two leaders', async () => {
  const [first] = leaders() as [Instance]
  const fence = first.cluster.fence ?? 0n
  await etcd.kill('SIGSTOP')
  await until(() => leaders().length === 0, 3000)
  await sleep(2000)
  await etcd.kill('SIGCONT')
  const startedAt = clock.now()
  let most = 0
  while (clock.now() - startedAt < 5000) {
    most = Math.max(most, leaders().length)
    await sleep(2)
  }
  assert.equal(most, 1)
  assert.ok((leaders()[0]?.cluster.fence ?? 0n) > fence, 'a new term has a higher fence')
})
