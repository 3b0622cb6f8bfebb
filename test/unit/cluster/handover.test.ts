import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cluster } from '../../../lib/cluster/cluster.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import { silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { StoreError } from '../../../lib/store/store.ts'
import { Link, MemoryStore } from '../../support/memory-store.ts'

const keys = new KeyLayout('test')

/** Instances of which the first leads; the later one stands in the list, the later it campaigns when the key vanishes. */
async function aCluster(...names: string[]) {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  const instances = names.map((name, n) => {
    const link = new Link(store)
    const cluster = new Cluster({
      store: link,
      keys,
      snapshot: new CurrentSnapshot(),
      clock,
      random: () => n / names.length,
      log: silentLog,
      metrics: new Metrics(),
      instance: { name, boot: name, version: '0', data: '', admin: '', started: new Date(0) },
      load: () => ({ running: {}, queued: 0 }),
    })
    return { name, link, cluster }
  })
  for (const { cluster } of instances) {
    cluster.start()
    await clock.advance(100)
  }
  const leader = () => instances.find(({ cluster }) => cluster.isLeader())?.name ?? null
  const stop = async () => {
    const stopped = Promise.all(instances.map(({ cluster }) => cluster.stop()))
    await clock.advance(2500)
    await stopped
  }
  await clock.advance(1000)
  assert.equal(leader(), names[0])
  return { clock, store, instances, leader, stop }
}

test('a successor named wins within half a second, though another would have been faster', async () => {
  const { clock, instances, leader, stop } = await aCluster('a', 'b', 'c')
  const [a] = instances
  void a?.cluster.stepDown('c')
  await clock.advance(500)
  assert.equal(leader(), 'c')
  await clock.advance(60_000)
  assert.equal(leader(), 'c')
  assert.deepEqual(
    a?.cluster.view.instances().map(({ successor }) => successor),
    [null, null, null],
    'nobody is named any more',
  )
  await stop()
})

test('without a successor, the first instance to campaign wins', async () => {
  const { clock, instances, leader, stop } = await aCluster('a', 'b', 'c')
  void instances[0]?.cluster.stepDown()
  await clock.advance(500)
  assert.equal(leader(), 'b')
  await stop()
})

test('a successor that dies meanwhile is waited for two seconds and one round, then another leads', async () => {
  const { clock, store, instances, leader, stop } = await aCluster('a', 'b', 'c')
  const dead = instances[2]
  if (dead) dead.link.isCut = true
  void instances[0]?.cluster.stepDown('c')
  await clock.advance(1900)
  assert.equal(leader(), null)
  await clock.advance(2500)
  assert.ok(['a', 'b'].includes(leader() ?? ''), store.value(keys.leader))
  if (dead) dead.link.isCut = false
  await stop()
})

test('a leader that cannot announce its successor goes on leading', async () => {
  const { clock, instances, leader, stop } = await aCluster('a', 'b')
  const [a] = instances
  if (a) a.link.isCut = true
  const refused = assert.rejects(async () => a?.cluster.stepDown('b'), StoreError)
  await clock.advance(2100)
  await refused
  if (a) a.link.isCut = false
  await clock.advance(1000)
  assert.equal(leader(), 'a')
  await stop()
})
