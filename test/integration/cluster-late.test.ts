import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Clock, RealClock, sleepOn } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { ClusterInstance, keys } from '../support/cluster.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { eventually } from '../support/wire.ts'

/** A minute takes six seconds. */
const clock = new RealClock(0.1)
let lagMs = 0

/** The clock of a process whose timers come late, as with a busy event loop or a starved CPU. */
const lagging: Clock = {
  now: () => clock.now(),
  date: () => clock.date(),
  after: (ms, task) => clock.after(ms + lagMs, task),
  sleep: (ms, signal) => sleepOn(lagging, ms, signal),
}

test('a leader that is late itself finds nothing, and hands over; one that is alone leads on (301)', async () => {
  const store = new MemoryStore(clock)
  store.put(keys.config, 'probes: {interval: 1s, timeout: 2s}')
  const node = await SimulatedNode.start({ name: 'n', models: [aModel({ name: 'tiny:1b' })] })
  store.put(keys.node('n'), `url: ${node.url}`)
  const late = new ClusterInstance(store, 'late', { clock: lagging })
  const standby = new ClusterInstance(store, 'standby')
  const isKnown = () => late.snapshot.get().nodes.get('n')?.health === 'up'
  const saysSo = () =>
    late.logged.warn.filter((line) => line.startsWith('this instance is too slow to probe nodes'))
  try {
    late.cluster.start()
    await eventually(() => late.cluster.isLeader() && isKnown(), 'it leads and knows the node', 10_000)
    const written = () => (JSON.parse(store.value(keys.nodeState('n')) ?? '{}') as { health: string }).health
    lagMs = 1200
    node.control.blackhole()
    await clock.sleep(25_000)
    assert.ok(late.cluster.isLeader())
    assert.deepEqual([written(), saysSo()], ['up', []])
    standby.cluster.start()
    await eventually(() => standby.cluster.isLeader(), 'the other one leads', 10_000)
    assert.equal(saysSo().length, 1)
    await eventually(() => written() === 'slow', 'what a timely instance finds is written', 10_000)
    assert.ok(!late.cluster.isLeader())
  } finally {
    lagMs = 0
    await Promise.all([late, standby].map(({ cluster }) => cluster.stop()))
    await node.stop()
  }
})
