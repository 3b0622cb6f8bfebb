import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Agent } from '../../../lib/agent/agent.ts'
import { Cluster } from '../../../lib/cluster/cluster.ts'
import type { NodeHealth } from '../../../lib/fleet/node.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import { type Log, silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { Link, MemoryStore } from '../../support/memory-store.ts'

const keys = new KeyLayout('test')
const node = keys.node('gpu-1')
const record = keys.agent('gpu-1')
const ttlMs = 10_000

function aStore() {
  const clock = new VirtualClock()
  return { clock, store: new MemoryStore(clock) }
}

/** An agent for gpu-1; the test sets the health of its local Ollama. */
function anAgent(store: MemoryStore, announce = 'http://10.0.0.1:11434') {
  const link = new Link(store)
  const said: string[] = []
  const note = (message: string) => void said.push(message)
  const log: Log = { ...silentLog, info: note, warn: note }
  const document = JSON.stringify({ url: announce })
  let health: NodeHealth | null = 'up'
  const agent = new Agent({
    store: link,
    keys,
    clock: store.clock,
    random: () => 0.5,
    log,
    name: 'gpu-1',
    announce,
    document,
    health: () => health && { health, reason: 'connection refused' },
    ttlMs,
  })
  const become = (next: NodeHealth | null) => {
    health = next
    agent.poke()
  }
  return { agent, link, said, document, become }
}

const recordIn = (store: MemoryStore) => JSON.parse(store.value(record) ?? 'null')

test('an agent registers its node and itself, both under its lease', async () => {
  const { clock, store } = aStore()
  const { agent, document, said } = anAgent(store)
  agent.start()
  await clock.advance(100)
  assert.equal(store.value(node), document)
  assert.deepEqual(recordIn(store), {
    name: 'gpu-1',
    announce: 'http://10.0.0.1:11434',
    since: '2026-01-01T00:00:00.000Z',
    registered: true,
  })
  assert.ok(store.entries.get(node)?.lease)
  assert.equal(store.entries.get(record)?.lease, store.entries.get(node)?.lease)
  assert.deepEqual(said, ['node registered'])
  await agent.stop()
})

test('nothing is written as long as nothing changes', async () => {
  const { clock, store } = aStore()
  const { agent } = anAgent(store)
  agent.start()
  await clock.advance(100)
  const { revision } = store
  await clock.advance(120_000)
  assert.equal(store.revision, revision)
  await agent.stop()
})

test('a node is not registered before its Ollama was probed', async () => {
  const { clock, store } = aStore()
  const { agent, become } = anAgent(store)
  become(null)
  agent.start()
  await clock.advance(5000)
  assert.equal(store.value(node), undefined)
  assert.equal(recordIn(store).registered, false)
  await agent.stop()
})

test('a node goes when its Ollama goes down and comes back with it, one line each', async () => {
  const { clock, store } = aStore()
  const { agent, become, document, said } = anAgent(store)
  agent.start()
  await clock.advance(100)
  become('down')
  await clock.advance(10)
  assert.equal(store.value(node), undefined)
  assert.equal(recordIn(store).registered, false, 'the agent itself is still there')
  assert.equal(recordIn(store).reason, 'connection refused')
  const { revision } = store
  await clock.advance(30_000)
  assert.equal(store.revision, revision, 'and says so once')
  await clock.advance(60_000)
  become('up')
  await clock.advance(10)
  assert.equal(store.value(node), document)
  assert.deepEqual(said, [
    'node registered',
    'node withdrawn: the local Ollama does not answer',
    'node registered',
  ])
  await agent.stop()
})

test('an agent beside a slow Ollama stays registered, and logs that once', async () => {
  const { clock, store } = aStore()
  const { agent, become, document } = anAgent(store)
  agent.start()
  await clock.advance(100)
  become('slow')
  await clock.advance(10)
  const { revision } = store
  await clock.advance(60_000)
  assert.equal(store.revision, revision, 'nothing is written while it stays slow')
  assert.equal(store.value(node), document)
  assert.deepEqual([recordIn(store).registered, recordIn(store).reason], [true, 'connection refused'])
  await agent.stop()
})

test('a stopped agent withdraws its node, and leaves a record of the stop until its lease ends (310)', async () => {
  const { clock, store } = aStore()
  const { agent } = anAgent(store)
  agent.start()
  await clock.advance(100)
  const stopped = agent.stop()
  await clock.advance(0)
  await stopped
  assert.equal(store.value(node), undefined)
  assert.equal(recordIn(store).stopped, true)
  await clock.advance(ttlMs)
  assert.deepEqual([...store.entries], [])
})

test('an agent that starts again at once takes the place of the one that was stopped (310)', async () => {
  const { clock, store } = aStore()
  const first = anAgent(store)
  first.agent.start()
  await clock.advance(100)
  await first.agent.stop()
  const second = anAgent(store)
  second.agent.start()
  await clock.advance(100)
  assert.equal(store.value(node), second.document)
  assert.deepEqual([recordIn(store).registered, recordIn(store).stopped], [true, undefined])
  await clock.advance(ttlMs)
  assert.equal(recordIn(store).registered, true)
  await second.agent.stop()
})

test('a stopped agent leaves what another agent or an operator registered (310)', async () => {
  const { clock, store } = aStore()
  const { agent } = anAgent(store)
  agent.start()
  await clock.advance(100)
  store.put(node, '{"url": "http://10.0.0.9:11434"}')
  await agent.stop()
  assert.equal(store.value(node), '{"url": "http://10.0.0.9:11434"}')
})

test('a stop ends within two seconds when the store does not answer', async () => {
  const { clock, store } = aStore()
  const { agent, link } = anAgent(store)
  agent.start()
  await clock.advance(1900)
  link.isCut = true
  await clock.advance(300)
  const startedAt = clock.now()
  let endedAt = Number.POSITIVE_INFINITY
  void agent.stop().then(() => {
    endedAt = clock.now()
  })
  await clock.advance(5000)
  assert.ok(endedAt - startedAt <= 2000, `${endedAt - startedAt} ms`)
})

test('the node of a host that is cut off is gone one TTL later, and back when the host is', async () => {
  const { clock, store } = aStore()
  const { agent, link, document } = anAgent(store)
  agent.start()
  await clock.advance(100)
  link.isCut = true
  await clock.advance(ttlMs)
  assert.equal(store.value(node), undefined)
  link.isCut = false
  await clock.advance(3000)
  assert.equal(store.value(node), document)
  await agent.stop()
})

test("an operator's document is left alone, before and after; the agent says so once and follows when it is removed", async () => {
  const { clock, store } = aStore()
  const { agent, document, said } = anAgent(store)
  store.put(node, '{"url": "http://10.0.0.9:11434"}')
  agent.start()
  await clock.advance(30_000)
  assert.equal(store.value(node), '{"url": "http://10.0.0.9:11434"}')
  assert.equal(recordIn(store).registered, false)
  store.delete(node)
  await clock.advance(2500)
  assert.equal(store.value(node), document)
  store.put(node, '{"url": "http://10.0.0.8:11434"}')
  await clock.advance(30_000)
  assert.equal(store.value(node), '{"url": "http://10.0.0.8:11434"}')
  assert.equal(store.entries.get(node)?.lease, null)
  assert.deepEqual(said, [
    "not registered: an operator's document has the name",
    'node registered',
    "not registered: an operator's document has the name",
  ])
  await agent.stop()
  assert.equal(store.value(node), '{"url": "http://10.0.0.8:11434"}', "an operator's document outlives it")
})

test("an operator's document is not withdrawn when the Ollama goes down", async () => {
  const { clock, store } = aStore()
  const { agent, become } = anAgent(store)
  agent.start()
  await clock.advance(100)
  store.put(node, '{"url": "http://10.0.0.9:11434"}')
  become('down')
  await clock.advance(5000)
  assert.equal(store.value(node), '{"url": "http://10.0.0.9:11434"}')
  await agent.stop()
})

test("an operator's write just before the agent's put or delete wins", async () => {
  for (const health of ['up', 'down'] as const) {
    const { clock, store } = aStore()
    const { agent, link, become } = anAgent(store)
    agent.start()
    await clock.advance(100)
    if (health === 'up') store.delete(node)
    link.latencyMs = () => 20
    become(health)
    await clock.advance(45) // it has read the key, and its write is under way
    store.put(node, '{"url": "http://10.0.0.9:11434"}')
    link.latencyMs = () => 0
    await clock.advance(5000)
    assert.equal(store.value(node), '{"url": "http://10.0.0.9:11434"}', health)
    await agent.stop()
  }
})

test('of two agents with one name the first owns the node; the second takes over when the first is gone', async () => {
  const { clock, store } = aStore()
  const first = anAgent(store)
  const second = anAgent(store, 'http://10.0.0.2:11434')
  first.agent.start()
  await clock.advance(100)
  second.agent.start()
  await clock.advance(30_000)
  assert.equal(store.value(node), first.document)
  assert.equal(recordIn(store).announce, 'http://10.0.0.1:11434')
  assert.deepEqual(second.said, ['node not registered: another agent has the name'])
  await first.agent.stop()
  await clock.advance(2500)
  assert.equal(store.value(node), second.document)
  assert.equal(recordIn(store).announce, 'http://10.0.0.2:11434')
  await second.agent.stop()
})

test("a write with a lost answer is recognised as the agent's own", async () => {
  const { clock, store } = aStore()
  const { agent, link, become, document, said } = anAgent(store)
  become(null)
  agent.start()
  await clock.advance(100)
  link.latencyMs = () => 20
  become('up')
  await clock.advance(45)
  link.answersToLose = 1
  link.latencyMs = () => 0
  await clock.advance(10_000)
  assert.equal(store.value(node), document)
  assert.deepEqual(said, ['node registered'])
  become('down')
  await clock.advance(100)
  assert.equal(store.value(node), undefined)
  await agent.stop()
})

test('a node moves to the new lease while the old one, given up for lost, still holds it: it is never away', async () => {
  const { clock, store } = aStore()
  const { agent, link, said } = anAgent(store)
  agent.start()
  await clock.advance(100)
  const before = store.entries.get(node)
  link.answersToLose = 1000 // the store goes on renewing, and the agent hears nothing of it
  await clock.advance(ttlMs + 1000)
  link.answersToLose = 0
  await clock.advance(3000)
  assert.notEqual(store.entries.get(node)?.lease, before?.lease)
  await clock.advance(2 * ttlMs)
  assert.equal(store.entries.get(node)?.created, before?.created)
  assert.deepEqual(said, ['node registered', 'the lease was not renewed: trying again'])
  await agent.stop()
})

test("the verdict on an operator's document warns while an agent of its name runs", async () => {
  const { clock, store } = aStore()
  const instance = new Cluster({
    store: new Link(store),
    keys,
    snapshot: new CurrentSnapshot(),
    clock,
    random: () => 0.5,
    log: silentLog,
    metrics: new Metrics(),
    instance: { name: 'a', boot: 'b', version: '0', data: '', admin: '', started: clock.date() },
    load: () => ({ running: {}, queued: 0 }),
  })
  const verdict = () => JSON.parse(store.value(keys.verdict(node)) ?? '{}')
  store.put(node, '{"url": "http://10.0.0.9:11434", "state": "off"}')
  store.put(keys.node('gpu-2'), '{"url": "http://10.0.0.8:11434", "state": "off"}')
  instance.start()
  await clock.advance(1000)
  assert.deepEqual([verdict().ok, verdict().warnings], [true, undefined])
  assert.equal(instance.view.nodeSource('gpu-1'), 'operator')

  const { agent } = anAgent(store)
  agent.start()
  await clock.advance(1000)
  assert.equal(verdict().ok, true)
  assert.deepEqual(verdict().warnings, [
    'an agent announces http://10.0.0.1:11434 under this name; this document wins over it until it is removed',
  ])
  assert.equal(JSON.parse(store.value(keys.verdict(keys.node('gpu-2'))) ?? '{}').warnings, undefined)

  await agent.stop()
  await clock.advance(1000)
  assert.equal(verdict().warnings, undefined)
  const stopped = instance.stop()
  await clock.advance(2500)
  await stopped
})
