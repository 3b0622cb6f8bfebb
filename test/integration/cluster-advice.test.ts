import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { Contacts } from '../../lib/fleet/contacts.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
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

test('an instance without a leader probes the nodes itself, and stops when a leader is back', async () => {
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

test('an instance finds a node down by its own probes and failures, and by no advice of another (301)', async () => {
  const [n] = nodes as [SimulatedNode]
  const contacts = new Contacts(clock)
  const other = new ClusterInstance(store, 'other', { contacts })
  other.cluster.start()
  const finds = ({ cluster, snapshot }: ClusterInstance) => {
    const node = snapshot.get().nodes.get('n')
    return node !== undefined && cluster.findsDown(node)
  }
  try {
    await eventually(() => available(other) === 'm n', 'the advice arrived', 5000)
    contacts.failed('n')
    assert(!finds(other), 'a node that is advised up has one failure')
    contacts.answered('n')
    await n.control.refuse()
    // The news reaches each instance at a time of its own.
    const all = [leader, standby, other]
    const isTold = (instance: ClusterInstance) => available(instance) === 'm'
    await eventually(() => all.every(isTold), 'the leader advises that a node is down', 5000)
    assert.deepEqual(all.map(finds), [true, false, false])
    contacts.failed('n')
    assert(finds(other), 'a request of its own failed there')
    contacts.probed('n')
    assert(!finds(other), 'its own look was answered since')
    contacts.failed('n')
    await eventually(() => !finds(other), 'the failure is long ago', 5000)
    standby.link.isCut = true
    await eventually(() => finds(standby), 'without a leader it probes for itself', 10_000)
  } finally {
    await other.cluster.stop()
  }
})
