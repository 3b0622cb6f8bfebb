import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClusterOptions } from '../../../lib/cluster/cluster.ts'
import type { Saved } from '../../../lib/cluster/config/snapshot-file.ts'
import type { InventoryModel, NodeStatus } from '../../../lib/fleet/node.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { ClusterInstance, keys } from '../../support/cluster.ts'
import { recordingLog } from '../../support/log.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const ttlMs = 10_000
const dayMs = 24 * 3_600_000
/** Nothing listens there. */
const url = 'http://127.0.0.1:9'
const document = JSON.stringify({ url, slots: 2, labels: { zone: 'a' } })
const model: InventoryModel = {
  name: 'm:latest',
  digest: 'sha256:1',
  size: 5,
  modified_at: '2026-01-01T00:00:00Z',
  details: {},
}
const status: NodeStatus = {
  fence: '1',
  health: 'up',
  reason: 'the first probe was answered',
  since: '2026-01-01T00:00:00Z',
  version: '0.12.6',
  models: [model],
  loaded: [],
  weight: 1,
}

/** Instances on one store, and what an agent on another host does there. */
async function aFleet(names: readonly string[] = ['a', 'b'], options: Partial<ClusterOptions> = {}) {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  const instances = names.map((name) => {
    const { log, lines } = recordingLog()
    return Object.assign(new ClusterInstance(store, name, { log, ...options }), { lines })
  })
  const [first] = instances
  assert(first)
  const said = (instance = first) =>
    instance.lines.flatMap(({ level, message, fields }) =>
      message.startsWith('node ') ? [`${level} ${message} ${fields['node']}`] : [],
    )
  for (const each of instances) {
    each.cluster.start()
    await clock.advance(100)
  }
  assert(first.cluster.isLeader())
  const agent = (record: object) => ({
    type: 'put' as const,
    key: keys.agent('gpu-1'),
    value: JSON.stringify({ name: 'gpu-1', announce: url, since: status.since, registered: true, ...record }),
  })
  let lease = ''
  return {
    clock,
    store,
    instances,
    first,
    said,
    /** An agent registers gpu-1, and the leader has seen model m on it. */
    async register(text = document) {
      lease = store.grant(ttlMs).id
      const put = { type: 'put' as const, key: keys.node('gpu-1'), value: text, lease }
      store.commit({ when: [], apply: [{ ...agent({}), lease }, put] })
      store.put(keys.nodeState('gpu-1'), JSON.stringify(status))
      await clock.advance(1500)
    },
    /** Nobody renews the agent's lease any more. */
    async dies() {
      await clock.advance(ttlMs)
    },
    /** The agent says why, and takes the node away. */
    async withdraw(record: object) {
      store.commit({ when: [], apply: [{ ...agent({ registered: false, ...record }), lease }] })
      store.delete(keys.node('gpu-1'))
      await clock.advance(1500)
    },
    record: () => JSON.parse(store.value(keys.remembered('gpu-1')) ?? 'null'),
    async [Symbol.asyncDispose]() {
      const stopped = Promise.all(instances.map(({ cluster }) => cluster.stop()))
      await clock.advance(2500)
      await stopped
    },
  }
}

const nodeOn = (instance: ClusterInstance) => instance.snapshot.get().nodes.get('gpu-1')
const hasModel = (instance: ClusterInstance) => instance.snapshot.get().models.has('m:latest')

test('the node of a host that died is remembered, with its models, since when and why, on every instance (310)', async () => {
  await using fleet = await aFleet()
  await fleet.register()
  assert.equal(nodeOn(fleet.first)?.departed, null)
  assert.equal(fleet.record().departed, null)
  await fleet.dies()
  for (const instance of fleet.instances) {
    const node = nodeOn(instance)
    assert.equal(node?.available, false)
    assert.equal(node?.status?.health, 'down')
    assert.match(node?.departed?.reason ?? '', /lease of its agent ran out/)
    assert.deepEqual(node?.spec.labels, { zone: 'a' })
    assert(hasModel(instance))
    assert.deepEqual(fleet.said(instance).slice(-1), ['warn node departed gpu-1'])
    assert.equal(await instance.gauge('nodes_departed'), 1)
  }
  const { departed, models, version } = fleet.record()
  assert.equal(departed.since, nodeOn(fleet.first)?.departed?.since)
  assert.deepEqual([models, version], [[model], '0.12.6'])
  const corrected = { since: status.since, reason: 'as the leader says' }
  fleet.store.put(keys.remembered('gpu-1'), JSON.stringify({ ...fleet.record(), departed: corrected }))
  await fleet.clock.advance(1500)
  for (const instance of fleet.instances) assert.deepEqual(nodeOn(instance)?.departed, corrected)
  assert.equal(fleet.store.value(keys.nodeState('gpu-1')), undefined, 'its status went over into the record')
  const { revision } = fleet.store
  await fleet.clock.advance(4000)
  assert.ok(fleet.store.revision - revision <= 2n, 'nothing but heartbeats is written')
})

test('a model of a departed node is known at every moment, also without a leader (310)', async () => {
  await using fleet = await aFleet()
  await fleet.register()
  const [leader, standby] = fleet.instances
  assert(leader && standby)
  let isMissing = false
  standby.snapshot.onSwap(() => {
    isMissing ||= !hasModel(standby)
  })
  leader.link.isCut = true // the leader dies with the agent's host
  await fleet.clock.advance(ttlMs / 2)
  await fleet.dies()
  assert.equal(isMissing, false)
  const noticed = nodeOn(standby)?.departed
  assert.ok(noticed)
  await fleet.clock.advance(2 * ttlMs)
  assert(standby.cluster.isLeader())
  assert.notEqual(fleet.record().departed, null, 'the next leader records what it saw')
  assert.deepEqual(fleet.record().models, [model])
  assert.deepEqual(fleet.record().departed, noticed)
  assert.equal(isMissing, false)
  leader.link.isCut = false
})

test('what departed is known to instances that start later (310)', async () => {
  await using fleet = await aFleet(['a'])
  await fleet.register()
  await fleet.dies()
  const later = new ClusterInstance(fleet.store, 'c')
  later.cluster.start()
  await fleet.clock.advance(100)
  assert(hasModel(later))
  assert.equal(nodeOn(later)?.departed?.since, nodeOn(fleet.first)?.departed?.since)
  const stopped = later.cluster.stop()
  await fleet.clock.advance(2500)
  await stopped
})

for (const [record, reason] of [
  [{ stopped: true }, 'its agent was stopped'],
  [{ reason: 'connect ECONNREFUSED' }, /the Ollama server there does not answer: connect ECONNREFUSED/],
] as const)
  test(`a departure by ${Object.keys(record)} says so (310)`, async () => {
    await using fleet = await aFleet()
    await fleet.register()
    await fleet.withdraw(record)
    for (const text of [nodeOn(fleet.first)?.departed?.reason, fleet.record().departed.reason])
      if (typeof reason === 'string') assert.equal(text, reason)
      else assert.match(text, reason)
    assert(hasModel(fleet.first))
  })

test('a node that is back is a node like any other, and the log says that it returned (310)', async () => {
  await using fleet = await aFleet()
  await fleet.register()
  await fleet.dies()
  await fleet.register()
  assert.equal(nodeOn(fleet.first)?.departed, null)
  assert.equal(fleet.record().departed, null)
  assert.equal(await fleet.first.gauge('nodes_departed'), 0)
  assert.deepEqual(
    fleet.said().filter((line) => !/node (down|up)/.test(line)),
    ['warn node departed gpu-1', 'info node returned gpu-1'],
  )
})

test('a departed node is forgotten after a day, and its models with it (310)', async () => {
  await using fleet = await aFleet(['a'])
  await fleet.register()
  await fleet.dies()
  // By the wall clock, which records tell: a day of probes would take this machine ten seconds.
  fleet.clock.jump(dayMs - 2 * ttlMs)
  await fleet.clock.advance(ttlMs / 2)
  assert(hasModel(fleet.first))
  await fleet.clock.advance(2 * ttlMs)
  assert.equal(nodeOn(fleet.first), undefined)
  assert.equal(hasModel(fleet.first), false)
  assert.equal(fleet.record(), null)
})

test("a node that an operator registers under a departed one's name, or address, takes its place (310)", async () => {
  for (const name of ['gpu-1', 'other']) {
    await using fleet = await aFleet(['a'])
    await fleet.register()
    await fleet.dies()
    let most = 0
    fleet.first.snapshot.onSwap(() => {
      most = Math.max(most, fleet.first.nodes.length)
    })
    fleet.store.put(keys.node(name), JSON.stringify({ url }))
    await fleet.clock.advance(1500)
    assert.equal(most, 1, 'never both')
    assert.deepEqual(
      [...fleet.first.snapshot.get().nodes.values()].map((node) => [node.name, node.departed]),
      [[name, null]],
    )
    assert.equal(fleet.record(), null)
  }
})

test('what an operator registered and removes is not remembered: that was an order (310)', async () => {
  await using fleet = await aFleet(['a'])
  fleet.store.put(keys.node('gpu-1'), document)
  fleet.store.put(keys.node('gpu-2'), JSON.stringify({ url: 'http://127.0.0.1:10' }))
  await fleet.clock.advance(1500)
  fleet.store.delete(keys.node('gpu-1'))
  await fleet.clock.advance(1500)
  assert.deepEqual(fleet.first.nodes, ['gpu-2'])
})

test('a departure that no leader recorded is in the snapshot on disk, and in force at a start without the store (310)', async () => {
  let saved: Saved | null = null
  const disk = {
    load: async () => saved,
    save: async (what: Saved) => {
      saved = what
    },
  }
  await using fleet = await aFleet(['a'])
  await fleet.register()
  const witness = new ClusterInstance(fleet.store, 'w', { disk })
  witness.cluster.setDraining(true) // it does not lead
  witness.cluster.start()
  await fleet.clock.advance(100)
  fleet.first.link.isCut = true
  await fleet.dies()
  const noticed = nodeOn(witness)?.departed
  assert.ok(noticed)
  await fleet.clock.advance(11_000)
  fleet.store.put(keys.node('other'), JSON.stringify({ url: 'http://127.0.0.1:10' }))
  await fleet.clock.advance(100)
  assert.deepEqual(nodeOn(witness)?.departed, noticed, 'since the same moment, whatever else changes')
  assert(saved)
  assert.equal(fleet.record().departed, null)
  const next = new ClusterInstance(new MemoryStore(fleet.clock), 'a', { disk })
  next.link.isCut = true
  await next.cluster.restore()
  next.cluster.start()
  await fleet.clock.advance(1000)
  assert(hasModel(next))
  assert.match(nodeOn(next)?.departed?.reason ?? '', /lease of its agent ran out/)
  const stopped = Promise.all([next, witness].map(({ cluster }) => cluster.stop()))
  await fleet.clock.advance(2500)
  await stopped
})

test('of nodes that departed the latest 256 are remembered (310)', async () => {
  await using fleet = await aFleet(['a'])
  const since = (n: number) => new Date(fleet.clock.date().getTime() - n * 60_000).toISOString()
  const memory = (n: number) => ({
    fence: '1',
    document: JSON.stringify({ url: `http://10.0.0.1:${n + 1}` }),
    version: '',
    models: [],
    departed: { since: since(n), reason: 'x' },
  })
  const put = (n: number) =>
    ({ type: 'put', key: keys.remembered(`n-${n}`), value: JSON.stringify(memory(n)) }) as const
  fleet.store.commit({ when: [], apply: Array.from({ length: 300 }, (_, n) => put(299 - n)) })
  await fleet.clock.advance(1500)
  assert.deepEqual(fleet.first.nodes, Array.from({ length: 256 }, (_, n) => `n-${n}`).sort())
})

test('a record that no leader can have written is ignored and removed (310)', async () => {
  await using fleet = await aFleet(['a'])
  const departed = { since: status.since, reason: 'x' }
  const forged = { fence: '999999', document, version: '', models: [model], departed }
  fleet.store.put(keys.remembered('gpu-1'), JSON.stringify(forged))
  fleet.store.put(keys.remembered('gpu-2'), '{')
  await fleet.clock.advance(1500)
  assert.deepEqual(fleet.first.nodes, [])
  assert.equal(fleet.record(), null)
  assert.equal(fleet.store.value(keys.remembered('gpu-2')), undefined)
})
