import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulator/models.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { ClusterInstance, keys } from '../support/cluster.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { eventually } from '../support/wire.ts'

/** A minute takes three seconds. */
const clock = new RealClock(0.05)
const tiny = aModel({ name: 'tiny:1b' })

let store: MemoryStore
let leader: ClusterInstance
let standby: ClusterInstance
let nodes: SimulatedNode[]

beforeEach(async () => {
  store = new MemoryStore(clock)
  store.put(keys.config, 'probes: {interval: 2s, timeout: 20s}')
  nodes = await Promise.all(['n', 'm'].map((name) => SimulatedNode.start({ name, models: [tiny] })))
  for (const { name, url } of nodes) store.put(keys.node(name), `url: ${url}`)
  leader = new ClusterInstance(store, 'leader')
  leader.cluster.start()
  await eventually(() => leader.cluster.isLeader(), 'the first one leads', 5000)
  standby = new ClusterInstance(store, 'standby')
  standby.cluster.start()
  await eventually(() => available(standby) === 'm n', 'the advice arrived', 5000)
})

afterEach(async () => {
  await Promise.all([leader, standby].map(({ cluster }) => cluster.stop()))
  await Promise.all(nodes.map((node) => node.stop()))
})

function available({ snapshot }: ClusterInstance): string {
  const up = [...snapshot.get().nodes.values()].filter(({ health }) => health === 'up')
  return up.map(({ name }) => name).join(' ')
}

test('an instance cut off from every leader sees for itself who dies and who is back, and stops when one is heard', async () => {
  const [n] = nodes as [SimulatedNode]
  const wentAway: string[] = []
  standby.snapshot.onSwap(() => available(standby) === 'm n' || wentAway.push(available(standby)))
  standby.link.isCut = true
  await eventually(() => standby.cluster.advice === 'own', 'the advice is too old', 6000)
  const asked = n.requests.length
  await eventually(() => n.requests.length > asked + 20, 'two instances probe', 3000)
  assert.deepEqual(wentAway, [], 'losing the leader makes no node unavailable')
  await n.control.refuse()
  await eventually(() => available(standby) === 'm', 'it saw the death by itself', 3000)
  await n.control.accept()
  await eventually(() => available(standby) === 'm n', 'it saw the return by itself', 3000)
  standby.link.isCut = false
  await eventually(() => standby.cluster.advice === 'leader', 'the heartbeat is heard again', 3000)
  assert.equal(available(standby), 'm n')
})
