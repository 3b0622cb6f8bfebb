import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Saved } from '../../../lib/cluster/config/snapshot-file.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import type { Operation } from '../../../lib/store/store.ts'
import { ClusterInstance, keys } from '../../support/cluster.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const minute = 60_000

/** Nodes that are off are not probed: these tests open no sockets. */
const nodeText = (port: number) => `{url: "http://127.0.0.1:${port}", state: "off"}`
const keyText = (digit: number) => JSON.stringify({ hash: String(digit).repeat(64), tenant: 't' })

class Disk {
  saved: Saved | null = null
  saves = 0
  isFull = false

  async load() {
    return this.saved
  }

  async save(saved: Saved) {
    this.saves++
    if (this.isFull) throw new Error('no space left on the device')
    this.saved = structuredClone(saved)
  }
}

/** A store with two nodes, and instances that follow it. */
async function aCluster(names = ['a', 'b']) {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  fill(store)
  const disks = names.map(() => new Disk())
  const instances = names.map((name, n) => new ClusterInstance(store, name, { disk: disks[n] as Disk }))
  for (const { cluster } of instances) cluster.start()
  await clock.advance(2000)
  return {
    clock,
    store,
    disks,
    instances,
    first: instances[0] as ClusterInstance,
    disk: disks[0] as Disk,
    every: <T>(read: (instance: ClusterInstance) => T) => instances.map(read),
    async [Symbol.asyncDispose]() {
      const stopped = Promise.all(instances.map(({ cluster }) => cluster.stop()))
      await clock.advance(2500)
      await stopped
    },
  }
}

function fill(store: MemoryStore): void {
  store.put(keys.node('n'), nodeText(1))
  store.put(keys.node('m'), nodeText(2))
}

function remove(store: MemoryStore, ...gone: string[]): void {
  store.commit({ when: [], apply: gone.map((key): Operation => ({ type: 'delete', key })) })
}

test('a store gets a uid from its first leader, once', async () => {
  await using cluster = await aCluster()
  const uid = cluster.store.value(keys.uid)
  assert.match(uid ?? '', /^[0-9a-f-]{36}$/)
  await cluster.clock.advance(2 * minute)
  assert.equal(cluster.store.value(keys.uid), uid)
})

test('nodes that vanish all at once stay in force until three lists over 30 s agree', async () => {
  await using cluster = await aCluster()
  const { clock, store, first, every } = cluster
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(29_000)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [
      ['m', 'n'],
      ['m', 'n'],
    ],
  )
  assert.match(first.cluster.suspect ?? '', /^every node is gone/)
  assert.equal(await first.gauge('config_suspect'), 1)
  assert.equal(cluster.disk.saved?.objects.length, 2)
  await clock.advance(2000)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [[], []],
  )
  assert.deepEqual(
    every((instance) => instance.cluster.suspect),
    [null, null],
  )
  assert.equal(await first.gauge('config_suspect'), 0)
  assert.equal(first.logged.error.length, 1, 'said once')
  await clock.advance(1000)
  assert.deepEqual(cluster.disk.saved?.objects, [])
})

test('the count starts again when the store cannot be listed', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(20_000)
  first.link.isCut = true
  await clock.advance(minute)
  assert.deepEqual(first.nodes, ['m', 'n'])
  first.link.isCut = false
  await clock.advance(20_000)
  assert.deepEqual(first.nodes, ['m', 'n'])
  await clock.advance(40_000)
  assert.deepEqual(first.nodes, [])
})

test('nodes that come back in time make the store trusted, and a later deletion counts from the beginning', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(20_000)
  store.put(keys.node('x'), nodeText(3))
  await clock.advance(10)
  assert.equal(first.cluster.suspect, null)
  assert.deepEqual(first.nodes, ['x'], 'what the operator wrote is in force at once')
  remove(store, keys.node('x'))
  await clock.advance(29_000)
  assert.deepEqual(first.nodes, ['x'])
  await clock.advance(2000)
  assert.deepEqual(first.nodes, [])
})

test('an emptied store that loses its uid is foreign; with its uid back, the deletion counts from the beginning', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  const uid = store.value(keys.uid) ?? ''
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(20_000)
  store.delete(keys.uid)
  await clock.advance(20_000)
  assert.match(first.cluster.suspect ?? '', /^the uid of the store is gone, and it lacks 2/)
  assert.deepEqual(first.nodes, ['m', 'n'], 'lists do not confirm a store without its uid')
  store.put(keys.uid, uid)
  await clock.advance(29_000)
  assert.match(first.cluster.suspect ?? '', /^every node is gone/)
  assert.deepEqual(first.nodes, ['m', 'n'])
  await clock.advance(2000)
  assert.deepEqual([first.nodes, first.cluster.suspect], [[], null])
})

test('the last key can be revoked at once; several that vanish together are held back', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  store.put(keys.apiKey('one'), keyText(1))
  await clock.advance(10)
  remove(store, keys.apiKey('one'))
  await clock.advance(10)
  assert.equal(first.snapshot.get().keys.size, 0)
  store.put(keys.apiKey('one'), keyText(1))
  store.put(keys.apiKey('two'), keyText(2))
  await clock.advance(10)
  remove(store, keys.apiKey('one'), keys.apiKey('two'))
  await clock.advance(10)
  assert.equal(first.snapshot.get().keys.size, 2)
  assert.match(first.cluster.suspect ?? '', /^every key is gone/)
})

test('nodes that agents registered depart with their hosts, and the store stays trusted (310)', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  const lease = store.grant(minute).id
  const put = (key: string, port: number): Operation => ({ type: 'put', key, value: nodeText(port), lease })
  store.commit({
    when: [],
    apply: [
      { type: 'delete', key: keys.node('n') },
      { type: 'delete', key: keys.node('m') },
      put(keys.node('x'), 3),
      put(keys.node('y'), 4),
    ],
  })
  await clock.advance(10)
  store.revoke(lease)
  await clock.advance(10)
  assert.equal(first.cluster.suspect, null)
  assert.deepEqual(
    [...first.snapshot.get().nodes.values()].map(({ name, available, departed }) => [
      name,
      available,
      departed !== null,
    ]),
    [
      ['x', false, true],
      ['y', false, true],
    ],
  )
})

test('an accepted store is trusted at once, by every instance', async () => {
  await using cluster = await aCluster()
  const { clock, store, first, every } = cluster
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(10)
  const fence = first.cluster.view.leaderFence()
  await first.cluster.acceptEmpty()
  await clock.advance(10)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [[], []],
  )
  assert.deepEqual(
    every((instance) => instance.cluster.suspect),
    [null, null],
  )
  const uid = store.value(keys.uid)
  await first.cluster.acceptEmpty()
  assert.equal(store.value(keys.uid), uid, 'without a doubt there is nothing to accept')
  await clock.advance(10_000)
  assert.equal(first.cluster.view.leaderFence(), fence, 'its history is the same: the leader goes on')
})

test('a wiped store is suspect until every document is back, and then trusted without an operator', async () => {
  await using cluster = await aCluster()
  const { clock, store, every } = cluster
  store.restore()
  await clock.advance(5000)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [
      ['m', 'n'],
      ['m', 'n'],
    ],
  )
  for (const reason of every((instance) => instance.cluster.suspect))
    assert.match(
      reason ?? '',
      /^the uid of the store is gone, and it lacks 2 \(.*nodes\/n.*\) of 2 documents$/,
    )
  assert.deepEqual(
    every((instance) => instance.cluster.view.instances().length),
    [2, 2],
    'registered again',
  )
  assert.equal(every((instance) => instance.cluster.isLeader()).filter(Boolean).length, 1)
  await clock.advance(50_000)
  assert.equal(store.value(keys.uid), undefined, 'time to restore a backup')
  await clock.advance(10_000)
  assert.match(store.value(keys.uid) ?? '', /^[0-9a-f-]{36}$/)
  for (const reason of every((instance) => instance.cluster.suspect))
    assert.match(reason ?? '', /^the store is another one by its uid/)
  store.put(keys.node('n'), nodeText(5))
  await clock.advance(10)
  assert.match(cluster.first.cluster.suspect ?? '', /lacks 1 .* of 2 documents/)
  store.put(keys.node('m'), 'url: nonsense')
  await clock.advance(10)
  assert.match(cluster.first.cluster.suspect ?? '', /lacks 1/, 'a broken document is not back')
  store.put(keys.node('m'), nodeText(6))
  await clock.advance(10)
  assert.deepEqual(
    every((instance) => instance.cluster.suspect),
    [null, null],
  )
  assert.equal(cluster.first.snapshot.get().nodes.get('n')?.spec.url, 'http://127.0.0.1:5')
  for (const { logged } of cluster.instances) {
    assert.equal(logged.error.length, 1)
    assert.equal(
      logged.info.filter((line) => line === 'store trusted again: its documents are in force').length,
      1,
    )
  }
})

test('a wiped store that gets its old content back, uid included, is trusted at once', async () => {
  await using cluster = await aCluster()
  const { clock, store, every } = cluster
  const backup = [...store.entries.values()].filter(({ lease }) => lease === null)
  store.restore()
  await clock.advance(20_000)
  for (const { key, value } of backup) store.put(key, value)
  await clock.advance(10)
  assert.deepEqual(
    every((instance) => instance.cluster.suspect),
    [null, null],
  )
  remove(store, keys.node('n'))
  await clock.advance(10)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [['m'], ['m']],
  )
})

test('a wiped store accepted on one instance is trusted by all, also by one that was not running', async () => {
  await using cluster = await aCluster()
  const { clock, store, first, every, disk } = cluster
  const late = new ClusterInstance(store, 'late', { disk: Object.assign(new Disk(), { saved: disk.saved }) })
  store.restore()
  await clock.advance(2 * minute)
  store.put(keys.node('x'), nodeText(7))
  await first.cluster.acceptEmpty()
  await clock.advance(10)
  assert.deepEqual(
    every(({ nodes }) => nodes),
    [['x'], ['x']],
  )
  await late.cluster.restore()
  assert.deepEqual(late.nodes, ['m', 'n'])
  late.cluster.start()
  await clock.advance(10)
  assert.deepEqual([late.nodes, late.cluster.suspect], [['x'], null])
  const stopped = late.cluster.stop()
  await clock.advance(2500)
  await stopped
})

test('a store restored from a backup is a new history: the leader has to win again', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  const backup = [...store.entries.values()]
  const { revision } = store
  const fence = first.cluster.fence ?? 0n
  for (let n = 1; n <= 9; n++) store.put(keys.config, `routing: {attempts: ${n}}`)
  await clock.advance(1000)
  store.restore(backup, revision)
  await clock.advance(1000)
  assert.equal(first.cluster.isLeader(), false, 'although the key is still under its lease')
  await clock.advance(2000)
  assert.ok((first.cluster.fence ?? 0n) > fence)
  assert.equal(first.cluster.suspect, null, 'the uid is the same and the nodes are there')
  assert.equal(first.snapshot.get().config.routing.attempts, 3, 'the backup has no config')
})

test('an embedded store is always trusted', async () => {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  fill(store)
  const instance = new ClusterInstance(store, 'a')
  instance.link.kind = 'embedded'
  const cluster = new ClusterInstance(store, 'b', { store: instance.link })
  cluster.cluster.start()
  await clock.advance(2000)
  remove(store, keys.node('n'), keys.node('m'))
  await clock.advance(10)
  assert.deepEqual([cluster.nodes, cluster.cluster.suspect], [[], null])
  const stopped = cluster.cluster.stop()
  await clock.advance(2500)
  await stopped
})

test('an instance that starts without the store serves from its disk and says so, then follows the store', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, disk } = cluster
  await clock.advance(2000)
  assert.equal(disk.saved?.uid, store.value(keys.uid))
  const late = new ClusterInstance(store, 'late', { disk })
  late.link.isCut = true
  assert.equal(late.cluster.configSource, 'none')
  await late.cluster.restore()
  late.cluster.start()
  assert.ok(late.snapshot.isReady)
  assert.deepEqual([late.nodes, late.cluster.configSource], [['m', 'n'], 'snapshot'])
  assert.deepEqual(late.logged.warn, ['serving from the snapshot on disk until the store answers'])
  await clock.advance(minute)
  late.link.isCut = false
  store.put(keys.node('n'), 'url: nonsense')
  await clock.advance(3000)
  assert.equal(late.cluster.configSource, 'store')
  assert.equal(
    late.snapshot.get().nodes.get('n')?.spec.url,
    'http://127.0.0.1:1',
    'the good version of before the restart',
  )
  assert.equal(late.cluster.rejected()[0]?.verdict.active, '1')
  store.delete(keys.node('n'))
  await clock.advance(10)
  assert.deepEqual(late.nodes, ['m'], 'a deleted one is really gone')
  const stopped = late.cluster.stop()
  await clock.advance(2500)
  await stopped
})

test('changes are on the disk within a second, many in one write, and the last ones when the instance stops', async () => {
  const cluster = await aCluster(['a'])
  const { clock, store, disk } = cluster
  await clock.advance(20_000)
  const before = disk.saves
  for (let n = 1; n <= 9; n++) {
    store.put(keys.config, `routing: {attempts: ${n}}`)
    await clock.advance(10)
  }
  await clock.advance(1000)
  assert.equal(disk.saves, before + 1)
  assert.equal(disk.saved?.objects.find(({ key }) => key === keys.config)?.text, 'routing: {attempts: 9}')
  await clock.advance(minute)
  assert.equal(disk.saves, before + 1, 'nothing changed')
  store.put(keys.config, 'routing: {attempts: 2}')
  await clock.advance(10)
  await cluster[Symbol.asyncDispose]()
  assert.equal(disk.saved?.objects.find(({ key }) => key === keys.config)?.text, 'routing: {attempts: 2}')
})

test('a full disk is logged once, stops nothing, and the save is tried again', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, disk, first } = cluster
  disk.isFull = true
  for (let n = 1; n <= 9; n++) {
    store.put(keys.config, `routing: {attempts: ${n}}`)
    await clock.advance(5000)
  }
  assert.equal(first.snapshot.get().config.routing.attempts, 9)
  const told = first.logged.warn.filter((line) => line.startsWith('the snapshot cannot be saved'))
  assert.equal(told.length, 1)
  disk.isFull = false
  await clock.advance(31_000)
  assert.equal(disk.saved?.objects.find(({ key }) => key === keys.config)?.text, 'routing: {attempts: 9}')
  assert.ok(first.logged.info.includes('the snapshot is saved to disk again'))
})

test('advice is used for a minute without a heartbeat, then the instance probes itself until a heartbeat is back', async () => {
  await using cluster = await aCluster()
  const { clock, instances } = cluster
  const cut = instances.find((instance) => !instance.cluster.isLeader()) as ClusterInstance
  await clock.advance(minute)
  assert.equal(cut.cluster.advice, 'leader')
  cut.link.isCut = true
  await clock.advance(54_000)
  assert.equal(cut.cluster.advice, 'leader')
  await clock.advance(7000)
  assert.equal(cut.cluster.advice, 'own')
  assert.equal(await cut.gauge('cluster_advice_own'), 1)
  assert.ok(instances.every(({ cluster }) => cluster === cut.cluster || cluster.advice === 'leader'))
  await clock.advance(10 * minute)
  cut.link.isCut = false
  await clock.advance(6000)
  assert.equal(cut.cluster.advice, 'leader')
  assert.equal(await cut.gauge('cluster_advice_own'), 0)
  const told = (lines: string[], start: string) => lines.filter((line) => line.startsWith(start)).length
  assert.equal(told(cut.logged.warn, 'no heartbeat of a leader'), 1)
  assert.equal(told(cut.logged.info, 'leader is back'), 1)
})

test('a heartbeat in a suspect store does not count: its leader may know other nodes', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, first } = cluster
  store.restore()
  await clock.advance(50_000)
  assert.ok(first.cluster.suspect !== null && first.cluster.isLeader())
  assert.equal(first.cluster.advice, 'leader')
  await clock.advance(12_000)
  assert.equal(first.cluster.advice, 'own')
  fill(store)
  await clock.advance(6000)
  assert.equal(first.cluster.advice, 'leader')
})

test('advice from the disk is used for the rest of its minute, but not when it is too old or from the future', async () => {
  await using cluster = await aCluster(['a'])
  const { clock, store, disk } = cluster
  await clock.advance(12_000)
  const begin = async (confirmedAt: string | null) => {
    const saved = disk.saved && { ...disk.saved, confirmedAt }
    const late = new ClusterInstance(store, 'late', { disk: Object.assign(new Disk(), { saved }) })
    late.link.isCut = true
    await late.cluster.restore()
    late.cluster.start()
    await clock.advance(10)
    return late
  }
  const stop = async ({ cluster }: ClusterInstance) => {
    const stopped = cluster.stop()
    await clock.advance(2500)
    await stopped
  }
  const ago = (ms: number) => new Date(clock.date().getTime() - ms).toISOString()
  for (const confirmedAt of [null, ago(minute + 1), ago(-minute)]) {
    const late = await begin(confirmedAt)
    assert.equal(late.cluster.advice, 'own', `confirmed at ${confirmedAt}`)
    await stop(late)
  }
  const late = await begin(ago(minute / 2))
  assert.equal(late.cluster.advice, 'leader')
  await clock.advance(minute / 2)
  assert.equal(late.cluster.advice, 'own')
  late.link.isCut = false
  await clock.advance(8000)
  assert.equal(late.cluster.advice, 'leader', 'a heartbeat arrived')
  await stop(late)
})

test('a stop saves the time of the last heartbeat and the number of instances, though no document changed', async () => {
  const cluster = await aCluster()
  const { clock, disk } = cluster
  await clock.advance(10 * minute)
  const stoppedAt = clock.date().getTime()
  await cluster[Symbol.asyncDispose]()
  assert.ok(stoppedAt - Date.parse(disk.saved?.confirmedAt ?? '') <= 6000)
  assert.equal(disk.saved?.instances, 2)
  const late = new ClusterInstance(cluster.store, 'late', { disk })
  let told = 0
  late.link.sharedBy = (instances) => {
    told = instances
  }
  await late.cluster.restore()
  assert.equal(told, 2)
})

test('a heartbeat that was in the store before an instance started does not count', async () => {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  fill(store)
  store.put(keys.heartbeat, '{"fence": "1", "n": 1}')
  const late = new ClusterInstance(store, 'late')
  late.cluster.setDraining(true)
  late.cluster.start()
  await clock.advance(30_000)
  late.cluster.measure()
  assert.equal(await late.gauge('cluster_heartbeat_age_seconds'), 0)
  await clock.advance(minute / 2)
  assert.equal(late.cluster.advice, 'own')
  const stopped = late.cluster.stop()
  await clock.advance(2500)
  await stopped
})

test('after a restored backup that lacks or has an older record of it, an instance registers again within 5 s', async () => {
  for (const hasRecord of [false, true]) {
    await using cluster = await aCluster(['a', 'b', 'c'])
    const { clock, store, every } = cluster
    const { revision } = store
    // Without its nodes the backup is not believed: then nothing else gives a reason to write the record.
    const former = [...store.entries.values()].filter(
      ({ key }) => hasRecord || (!key.startsWith(keys.instance('')) && !key.startsWith(keys.node(''))),
    )
    for (let n = 1; n <= 9; n++) store.put(keys.config, `routing: {attempts: ${n}}`)
    await clock.advance(2000)
    store.restore(former, revision)
    await clock.advance(5000)
    for (const instances of every((instance) => instance.cluster.view.instances())) {
      assert.deepEqual(
        instances.map(({ id }) => id),
        ['a', 'b', 'c'],
      )
      const leaders = instances.filter(({ role }) => role === 'leader')
      assert.equal(leaders.length, 1)
      assert.equal(leaders[0]?.id, store.value(keys.leader), 'the records are of now')
    }
  }
})

test('a leader whose key vanished stops at once, though its lease lives', async () => {
  await using cluster = await aCluster()
  const { clock, store, instances } = cluster
  const leader = instances.find((instance) => instance.cluster.isLeader()) as ClusterInstance
  store.delete(keys.leader)
  await clock.advance(1)
  assert.equal(leader.cluster.isLeader(), false)
  await clock.advance(1000)
  assert.equal(instances.filter((instance) => instance.cluster.isLeader()).length, 1)
})
