import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cluster } from '../../../lib/cluster/cluster.ts'
import type { LoadSummary } from '../../../lib/fleet/instance.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import type { Log } from '../../../lib/shared/log.ts'
import { silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { ClusterInstance } from '../../support/cluster.ts'
import { recordingLog } from '../../support/log.ts'
import { Link, MemoryStore } from '../../support/memory-store.ts'

const keys = new KeyLayout('test')

function aStore() {
  const clock = new VirtualClock()
  return { clock, store: new MemoryStore(clock) }
}

function anInstance(
  store: MemoryStore,
  name: string,
  boot = `boot-of-${name}`,
  predecessor: string | null = null,
) {
  const link = new Link(store)
  const snapshot = new CurrentSnapshot()
  const metrics = new Metrics()
  const warnings: string[] = []
  const notes: string[] = []
  const log: Log = {
    ...silentLog,
    warn: (message) => void warnings.push(message),
    info: (message) => void notes.push(message),
  }
  const instance = {
    snapshot,
    metrics,
    link,
    warnings,
    notes,
    load: { running: {}, queued: 0 } as LoadSummary,
  }
  const cluster = new Cluster({
    store: link,
    keys,
    snapshot,
    clock: store.clock,
    random: () => 0.5,
    log,
    metrics,
    instance: {
      name,
      boot,
      version: '0.1.0',
      data: 'http://127.0.0.1:1',
      admin: 'http://127.0.0.1:2',
      started: new Date(0),
    },
    predecessor,
    load: () => instance.load,
  })
  return { ...instance, cluster, set: (load: LoadSummary) => (instance.load = load) }
}

async function stop(clock: VirtualClock, ...instances: readonly { cluster: Cluster }[]) {
  const stopped = Promise.all(instances.map(({ cluster }) => cluster.stop()))
  await clock.advance(2500)
  await stopped
}

const gauge = async (metrics: Metrics, name: string) =>
  (await metrics.registry.getSingleMetric(`llamero_${name}`)?.get())?.values[0]?.value

test('instances that start on an empty store are ready, registered and led within a tenth of a second', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(100)
  assert.ok(a.snapshot.isReady && b.snapshot.isReady)
  assert.deepEqual(
    b.cluster.view.instances().map(({ id, boot, started }) => ({ id, boot, started })),
    [
      { id: 'a', boot: 'boot-of-a', started: '1970-01-01T00:00:00.000Z' },
      { id: 'b', boot: 'boot-of-b', started: '1970-01-01T00:00:00.000Z' },
    ],
  )
  const leader = [a, b].find(({ cluster }) => cluster.isLeader())
  assert.equal(b.cluster.view.leader(), store.value(keys.leader))
  assert.equal(a.cluster.view.leaderFence(), leader?.cluster.fence)
  assert.equal(await gauge(a.metrics, 'cluster_members'), 2)
  await clock.advance(1000)
  const roles = a.cluster.view.instances().map(({ role }) => role)
  assert.deepEqual([...roles].sort(), ['leader', 'standby'], 'the records tell who leads')
  await stop(clock, a, b)
})

test('a stopped instance leaves nothing under its name and hands leadership over at once', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  a.cluster.start()
  await clock.advance(100)
  b.cluster.start()
  await clock.advance(1000)
  assert.ok(a.cluster.isLeader())
  void a.cluster.stop()
  await clock.advance(100)
  assert.ok(b.cluster.isLeader())
  assert.deepEqual(
    b.cluster.view.instances().map(({ id }) => id),
    ['b'],
  )
  assert.deepEqual([...b.cluster.view.loads().keys()], ['b'])
  await stop(clock, b)
})

test('a change of the leader is a warning on every instance, the first leader is none (310)', async () => {
  const { clock, store } = aStore()
  const [a, b] = ['a', 'b'].map((name) => {
    const { log, lines } = recordingLog()
    return Object.assign(new ClusterInstance(store, name, { log }), { lines })
  })
  assert.ok(a && b)
  a.cluster.start()
  await clock.advance(100)
  b.cluster.start()
  await clock.advance(1000)
  a.link.isCut = true // as if its host had died
  await clock.advance(15_000)
  assert.ok(b.cluster.isLeader())
  const told = b.lines.filter(({ message }) => message.startsWith('leader '))
  assert.deepEqual(
    told.map(({ level, message, fields }) => [level, message, fields['leader'], fields['former']]),
    [
      ['info', 'leader found', 'a', undefined],
      ['info', 'leader elected: this instance leads', undefined, undefined],
      ['warn', 'leader changed', 'b', 'a'],
    ],
  )
  a.link.isCut = false
  await stop(clock, a, b)
})

test('a stop ends within two seconds when the store does not answer', async () => {
  const { clock, store } = aStore()
  const a = anInstance(store, 'a')
  a.cluster.start()
  await clock.advance(100)
  a.link.isCut = true
  const startedAt = clock.now()
  let endedAt = 0
  void a.cluster.stop().then(() => (endedAt = clock.now()))
  await clock.advance(5000)
  assert.ok(endedAt > 0 && endedAt - startedAt <= 2000, `${endedAt - startedAt} ms`)
})

test('a second process with a name that is in use stays unregistered and leads nothing, until the first is gone', async () => {
  const { clock, store } = aStore()
  const first = anInstance(store, 'a', 'first')
  const second = anInstance(store, 'a', 'second')
  first.cluster.start()
  await clock.advance(100)
  second.cluster.start()
  await clock.advance(30_000)
  assert.deepEqual(second.warnings, ['duplicate instance name'], 'said once')
  assert.deepEqual(
    second.cluster.view.instances().map(({ boot }) => boot),
    ['first'],
  )
  await stop(clock, first)
  assert.ok(second.cluster.isLeader())
  assert.deepEqual(
    second.cluster.view.instances().map(({ boot }) => boot),
    ['second'],
  )
  await stop(clock, second)
})

test('a process started in the place of a killed one has its name at once, and keeps it when the old lease ends', async () => {
  const { clock, store } = aStore()
  const killed = anInstance(store, 'a', 'killed')
  killed.cluster.start()
  await clock.advance(100)
  killed.link.isCut = true
  await stop(clock, killed)
  killed.link.isCut = false
  assert.match(store.value(keys.instance('a')) ?? '', /killed/)
  const next = anInstance(store, 'a', 'next', 'killed')
  next.cluster.start()
  await clock.advance(100)
  const boots = () => next.cluster.view.instances().map(({ boot }) => boot)
  assert.deepEqual(boots(), ['next'])
  await clock.advance(30_000)
  assert.deepEqual(boots(), ['next'])
  assert.deepEqual(next.warnings, [])
  await stop(clock, next)
})

test('a record that no lease keeps alive is taken over', async () => {
  const { clock, store } = aStore()
  store.put(keys.instance('a'), JSON.stringify({ boot: 'restored from a backup' }))
  const a = anInstance(store, 'a')
  a.cluster.start()
  await clock.advance(100)
  assert.equal(a.cluster.view.instances()[0]?.boot, 'boot-of-a')
  await stop(clock, a)
})

test('an instance registers again after its lease was lost, and after its record was deleted', async () => {
  const { clock, store } = aStore()
  const a = anInstance(store, 'a')
  a.cluster.start()
  await clock.advance(1000)
  store.revoke(store.entries.get(keys.instance('a'))?.lease ?? '')
  await clock.advance(3000)
  assert.equal(a.cluster.view.instances().length, 1)
  store.delete(keys.instance('a'))
  await clock.advance(100)
  assert.equal(a.cluster.view.instances().length, 1)
  await stop(clock, a)
})

test('an instance cut off for a minute comes back within two seconds, and its snapshot never goes away', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  store.put(keys.node('n'), '{url: "http://127.0.0.1:9", state: "off"}')
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(1000)
  a.link.isCut = true
  await clock.advance(60_000)
  assert.deepEqual(
    b.cluster.view.instances().map(({ id }) => id),
    ['b'],
  )
  assert.ok(a.snapshot.get().nodes.has('n'))
  a.link.isCut = false
  await clock.advance(2000)
  assert.deepEqual(
    b.cluster.view.instances().map(({ id }) => id),
    ['a', 'b'],
  )
  await stop(clock, a, b)
})

test('a load summary is written when it changed, at most once a second', async () => {
  const { clock, store } = aStore()
  const a = anInstance(store, 'a')
  const history: string[] = []
  const handler = { changed: () => history.push(store.value(keys.load('a')) ?? ''), broken() {} }
  a.cluster.start()
  await clock.advance(1000)
  store.watch({ prefix: keys.load('a'), handler, link: a.link }, store.revision + 1n)
  await clock.advance(10_000)
  assert.deepEqual(history, [], 'nothing changed')
  for (let queued = 1; queued <= 100; queued++) {
    a.set({ running: {}, queued })
    a.cluster.setDraining(false)
    await clock.advance(100)
  }
  assert.ok(history.length >= 9 && history.length <= 11, `${history.length} writes in ten seconds`)
  assert.deepEqual(a.cluster.view.loads().get('a'), JSON.parse(history.at(-1) ?? ''))
  await stop(clock, a)
})

test('an instance that drains says so and leaves leadership to the others', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  a.cluster.start()
  await clock.advance(100)
  b.cluster.start()
  await clock.advance(1000)
  a.cluster.setDraining(true)
  await clock.advance(150)
  assert.ok(b.cluster.isLeader())
  assert.equal(b.cluster.view.instances().find(({ id }) => id === 'a')?.draining, true)
  await stop(clock, a, b)
})

test('an instance told to drain in the middle of its campaign does not lead', async () => {
  for (let ms = 0; ms < 30; ms++) {
    const { clock, store } = aStore()
    const a = anInstance(store, 'a')
    a.link.latencyMs = () => 2
    a.cluster.start()
    await clock.advance(ms)
    a.cluster.setDraining(true)
    await clock.advance(10)
    assert.equal(a.cluster.isLeader(), false, `told after ${ms} ms`)
    assert.equal(store.value(keys.leader), undefined)
    await stop(clock, a)
  }
})

test('documents put in the store are in every snapshot at once; a broken one is logged and the last valid version stays', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(1000)
  store.put(keys.node('n'), '{url: "http://127.0.0.1:9", state: "off"}')
  store.put(keys.route('chat'), 'model: llama3')
  store.put(keys.config, 'routing: {attempts: 7}')
  await clock.advance(10)
  for (const { snapshot } of [a, b]) {
    assert.deepEqual([...snapshot.get().nodes.keys()], ['n'])
    assert.equal(snapshot.get().routes[0]?.model, 'llama3')
    assert.equal(snapshot.get().config.routing.attempts, 7)
  }
  store.put(keys.route('chat'), 'modle: llama3')
  await clock.advance(10)
  for (const { snapshot, cluster, metrics } of [a, b]) {
    assert.equal(snapshot.get().routes[0]?.model, 'llama3')
    assert.deepEqual(
      cluster.rejected().map(({ key }) => key),
      [keys.route('chat')],
    )
    assert.equal(cluster.rejected()[0]?.verdict.errors[0]?.hint, 'did you mean "model"?')
    assert.equal(cluster.view.documents('routes').get('chat')?.text, 'modle: llama3')
    assert.equal(await gauge(metrics, 'config_rejected_objects'), 1)
  }
  const verdict = JSON.parse(store.value(keys.verdict(keys.route('chat'))) ?? '{}')
  assert.deepEqual([verdict.ok, verdict.errors[0].path], [false, 'modle'])
  assert.equal(JSON.parse(store.value(keys.verdict(keys.config)) ?? '{}').ok, true)
  assert.equal(await gauge(a.metrics, 'node_up'), 0)
  store.delete(keys.node('n'))
  store.delete(keys.route('chat'))
  await clock.advance(10)
  assert.equal(await gauge(a.metrics, 'node_up'), undefined, 'no series of a node that left')
  assert.deepEqual(a.snapshot.get().routes, [])
  assert.equal(store.value(keys.verdict(keys.route('chat'))), undefined)
  await stop(clock, a, b)
})

test('a key that no instance reads is logged by each of them and has a verdict, until it is gone', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(1000)
  const slip = `${keys.root}route/chat`
  store.put(slip, 'model: llama3')
  await clock.advance(10)
  for (const { cluster, warnings, metrics } of [a, b]) {
    const [rejected, ...others] = cluster.rejected()
    assert.deepEqual([rejected?.key, others], [slip, []])
    assert.match(rejected?.verdict.errors[0]?.hint ?? '', /^did you mean "routes\/chat"\?/)
    assert.deepEqual(
      warnings.filter((message) => message === 'document rejected'),
      ['document rejected'],
    )
    assert.equal(await gauge(metrics, 'config_rejected_objects'), 1)
  }
  assert.equal(JSON.parse(store.value(`${keys.root}status/route/chat`) ?? '{}').ok, false)
  store.delete(slip)
  await clock.advance(10)
  for (const { cluster } of [a, b]) assert.deepEqual(cluster.rejected(), [])
  assert.equal(store.value(`${keys.root}status/route/chat`), undefined)
  await stop(clock, a, b)
})

test('the leader gives a sign of life every five seconds under its fence', async () => {
  const { clock, store } = aStore()
  const a = anInstance(store, 'a')
  a.cluster.start()
  await clock.advance(100)
  assert.deepEqual(JSON.parse(store.value(keys.heartbeat) ?? ''), {
    fence: String(a.cluster.fence),
    n: 1,
    at: '2026-01-01T00:00:00.000Z',
  })
  await clock.advance(30_000)
  const { n } = JSON.parse(store.value(keys.heartbeat) ?? '')
  assert.ok(n >= 6 && n <= 7, `${n} in 30 s`)
  await stop(clock, a)
})

test('a quiet cluster writes nothing but its heartbeat', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  store.put(keys.node('n'), '{url: "http://127.0.0.1:9", state: "off"}')
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(10_000)
  const before = new Map([...store.entries].map(([key, { modified }]) => [key, modified]))
  await clock.advance(60_000)
  const changed = [...store.entries].filter(([key, { modified }]) => before.get(key) !== modified)
  assert.deepEqual(
    changed.map(([key]) => key),
    [keys.heartbeat],
  )
  await stop(clock, a, b)
})

test('records, load summaries and heartbeats written by hand keep no instance from leading and change no advice (307)', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  for (const { cluster } of [a, b]) cluster.start()
  await clock.advance(1000)
  const ghost = { ...JSON.parse(store.value(keys.instance('b')) ?? ''), id: 'ghost', successor: 'nobody' }
  store.put(keys.instance('ghost'), JSON.stringify(ghost))
  const { lease } = store.entries.get(keys.instance('b')) ?? {}
  assert.ok(lease)
  const value = store.value(keys.instance('b')) ?? ''
  store.commit({ when: [], apply: [{ type: 'put', key: keys.instance('other'), value, lease }] })
  for (const garbage of ['', '{', 'null', '{"running": {"n": -1}, "queued": 1e999}', '[]'])
    store.put(keys.load('a'), garbage)
  store.put(keys.load('ghost'), '{"running": {"n": 1000000}, "queued": 1}')
  store.put(keys.uid, '\u0000 garbage')
  await clock.advance(3000)
  for (const { cluster } of [a, b]) {
    assert.deepEqual(
      cluster.view.instances().map(({ id }) => id),
      ['a', 'b'],
    )
    assert.equal(cluster.view.loads().has('ghost'), false)
  }
  const [leader, other] = a.cluster.isLeader() ? [a, b] : [b, a]
  await stop(clock, leader)
  assert.ok(other.cluster.isLeader(), 'the successor that the ghost names keeps nobody from leading')
  await stop(clock, other)
})

test('an instance puts its record again at once when it is overwritten by hand (307)', async () => {
  for (const text of ['garbage', '{}', '{"boot": "another"}']) {
    const { clock, store } = aStore()
    const a = anInstance(store, 'a')
    a.cluster.start()
    await clock.advance(1000)
    const { lease } = store.entries.get(keys.instance('a')) ?? {}
    for (const under of [{}, { ...(lease && { lease }) }]) {
      store.commit({ when: [], apply: [{ type: 'put', key: keys.instance('a'), value: text, ...under }] })
      await clock.advance(1100)
      assert.equal(a.cluster.view.instances()[0]?.boot, 'boot-of-a')
      assert.ok(store.entries.get(keys.instance('a'))?.lease)
      assert.ok(a.cluster.isLeader())
    }
    assert.deepEqual(a.warnings, [], 'it has no rival')
    await stop(clock, a)
  }
})

test('a heartbeat that the leader did not write prolongs no advice (307)', async () => {
  const { clock, store } = aStore()
  const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
  a.cluster.start()
  await clock.advance(100)
  b.cluster.start()
  await clock.advance(6000)
  const last = JSON.parse(store.value(keys.heartbeat) ?? '')
  const forge = async (...fences: readonly string[]) => {
    for (let n = 0; n < 75; n++) {
      const fence = fences[n % fences.length]
      store.put(keys.heartbeat, n % 5 === 4 ? 'garbage' : JSON.stringify({ ...last, fence, n }))
      await clock.advance(1000)
    }
  }
  const commit = a.link.commit.bind(a.link)
  a.link.commit = (transaction) =>
    transaction.apply.some(({ key }) => key === keys.heartbeat)
      ? Promise.reject(new Error('it cannot be written'))
      : commit(transaction)
  await forge('0', '1', '99999999999999999999', 'x')
  assert.equal(b.cluster.advice, 'own', 'beside a leader that is silent')
  a.link.commit = commit
  await clock.advance(6000)
  assert.equal(b.cluster.advice, 'leader')
  a.link.isCut = true
  b.cluster.setDraining(true)
  await forge(last.fence, '0', '99999999999999999999', 'x')
  assert.equal(b.cluster.advice, 'own', 'while no instance leads')
  await stop(clock, a, b)
})

test("a clock that differs from the leader's by more than half a minute is logged once, and once when they agree again (311)", async () => {
  for (const hours of [-1, 1]) {
    const { clock, store } = aStore()
    const [a, b] = [anInstance(store, 'a'), anInstance(store, 'b')]
    a.cluster.start()
    await clock.advance(100)
    b.cluster.start()
    await clock.advance(20_000)
    const told = () => b.warnings.filter((message) => message.startsWith('clock skew'))
    const commit = a.link.commit.bind(a.link)
    a.link.commit = (transaction) =>
      commit({
        ...transaction,
        apply: transaction.apply.map((each) =>
          each.key === keys.heartbeat && each.type === 'put'
            ? { ...each, value: shifted(each.value, hours) }
            : each,
        ),
      })
    await clock.advance(5000)
    assert.deepEqual(told(), [], 'one heartbeat may have been late')
    await clock.advance(55_000)
    assert.equal(told().length, 1)
    assert.equal(Math.round((await gauge(b.metrics, 'cluster_clock_skew_seconds')) ?? 0), -hours * 3600)
    a.link.commit = commit
    await clock.advance(20_000)
    assert.equal(Math.round((await gauge(b.metrics, 'cluster_clock_skew_seconds')) ?? 1), 0)
    assert.deepEqual(
      b.notes.filter((message) => message.startsWith('clock skew')),
      ['clock skew is over: the clocks of this machine and of the leader agree again'],
    )
    await stop(clock, a, b)
  }
})

/** A heartbeat as a machine writes it whose clock is `hours` ahead. */
function shifted(heartbeat: string, hours: number): string {
  const { at, ...rest } = JSON.parse(heartbeat)
  return JSON.stringify({ ...rest, at: new Date(Date.parse(at) + hours * 3_600_000).toISOString() })
}
