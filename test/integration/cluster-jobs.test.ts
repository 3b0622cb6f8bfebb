import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import type { JobSpec, JobView } from '../../lib/fleet/job.ts'
import { isOver } from '../../lib/fleet/job.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode, type SimulatedNodeOptions } from '../../lib/simulation/http/simulated-node.ts'
import { ClusterInstance, keys } from '../support/cluster.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { eventually } from '../support/wire.ts'

const tiny = aModel({ name: 'tiny:1b', loadMs: 0, sizeMiB: 10 })
const big = aModel({ name: 'big:8b', sizeMiB: 5120 })
const embedder = aModel({ name: 'embed:latest', loadMs: 0, sizeMiB: 10, capabilities: ['embedding'] })

/** What one test made, in the order of making. */
let cleanups: (() => Promise<unknown>)[]
let store: MemoryStore
let a: ClusterInstance
let b: ClusterInstance

beforeEach(async () => {
  cleanups = []
  store = new MemoryStore(new RealClock())
  a = await anInstance('a')
  await eventually(() => a.cluster.isLeader(), 'a leads')
  b = await anInstance('b')
})

afterEach(async () => {
  for (const clean of cleanups.reverse()) await clean()
})

async function anInstance(name: string): Promise<ClusterInstance> {
  const instance = new ClusterInstance(store, name, { ttlMs: 2000 })
  instance.cluster.start()
  cleanups.push(() => instance.cluster.stop())
  await eventually(() => instance.cluster.view.instances().some(({ id }) => id === name), 'registered')
  return instance
}

async function aNode(name: string, options: Partial<SimulatedNodeOptions> = {}): Promise<SimulatedNode> {
  const node = await SimulatedNode.start({
    name,
    models: [tiny, embedder],
    registry: [tiny, big],
    ...options,
  })
  cleanups.push(() => node.stop())
  store.put(keys.node(name), JSON.stringify({ url: node.url }))
  return node
}

const sketch = { spares: [], tenant: 'someone' }

function aPull(nodes: readonly string[], model = big.name, more: Partial<JobSpec> = {}) {
  return b.cluster.jobs.submit({ ...sketch, action: 'pull', model, body: { model }, nodes, ...more })
}

/** The job as `b`, which does not lead at first, sees it. */
function seen(id: string): JobView {
  const job = b.cluster.jobs.get(id)
  assert.ok(job)
  return job
}

function states(id: string): Record<string, string> {
  const nodes = Object.entries(seen(id).status?.nodes ?? {})
  return Object.fromEntries(nodes.map(([name, { state }]) => [name, state]))
}

async function untilOver(id: string, withinMs = 8000): Promise<JobView> {
  await eventually(() => isOver(seen(id).status?.state ?? 'waiting'), `${id} is over`, withinMs)
  return seen(id)
}

function completed(id: string, node: string): number {
  const layers = Object.values(seen(id).status?.nodes[node]?.layers ?? {})
  return layers.reduce((sum, layer) => sum + layer.completed, 0)
}

/** Whether the node's own list has the model. */
async function has({ url }: SimulatedNode, model: string): Promise<boolean> {
  const answer = (await (await fetch(`${url}/api/tags`)).json()) as { models: { name: string }[] }
  return answer.models.some(({ name }) => name === model)
}

/** Models in the node's memory. */
async function inMemory({ url }: SimulatedNode): Promise<string[]> {
  const answer = (await (await fetch(`${url}/api/ps`)).json()) as { models: { name: string }[] }
  return answer.models.map(({ name }) => name)
}

/** Requests of one path that the node answered to their end, and all of them. */
function asked({ requests }: SimulatedNode, path: string) {
  const all = requests.filter((request) => request.path === path)
  const whole = all.filter(({ endedAt, abortedAt }) => endedAt !== null && abortedAt === null)
  return { all: all.length, whole: whole.length }
}

test('5 GB pulled to three nodes are there although the leader stops and a node restarts meanwhile', async () => {
  store.put(keys.config, JSON.stringify({ probes: { interval: '60s' } }))
  const nodes = await Promise.all(['x', 'y', 'z'].map((name) => aNode(name, { netMiBps: 2500 })))
  const [x, y] = nodes as [SimulatedNode, SimulatedNode]
  const isListed = (name: string) => b.snapshot.get().nodes.get(name)?.onDisk.has(big.name) === true
  const lies: string[] = []
  const heard: string[] = []
  const id = await aPull(['x', 'y', 'z'])
  const unfollow = b.cluster.jobs.follow(id, ({ status }) => {
    heard.push(status?.state ?? 'unseen')
    for (const node of nodes) {
      const isDone = status?.nodes[node.name]?.state === 'done'
      if (isDone && asked(node, '/api/pull').whole === 0) lies.push(node.name)
      if (isDone && !isListed(node.name)) lies.push(`${node.name} has it, and is not known to`)
    }
  })
  await eventually(() => completed(id, 'x') > 0, 'the pull is under way')
  await a.cluster.stop()
  assert.equal(asked(x, '/api/pull').all, 1)
  void y.control.restart({ downMs: 300 })
  const { status } = await untilOver(id, 12_000)
  await eventually(() => heard.at(-1) === 'done', 'the end is told')
  unfollow()
  assert.deepEqual(states(id), { x: 'done', y: 'done', z: 'done' })
  assert.equal(status?.state, 'done')
  assert.deepEqual(lies, [], 'nothing is said to be done before it is')
  for (const node of nodes) assert.ok(await has(node, big.name), node.name)
})

test('a cancelled pull is cut off, and what is done stays done', async () => {
  const slow = await aNode('slow', { netMiBps: 100 })
  await aNode('quick', { netMiBps: 0 })
  const id = await aPull(['slow', 'quick'])
  await eventually(() => states(id)['quick'] === 'done' && completed(id, 'slow') > 0, 'under way', 4000)
  await b.cluster.jobs.cancel(id)
  const { status } = await untilOver(id)
  assert.equal(status?.state, 'cancelled')
  assert.deepEqual(states(id), { slow: 'cancelled', quick: 'done' })
  await eventually(() => slow.requests.every(({ abortedAt, endedAt }) => abortedAt ?? endedAt), 'cut off')
  assert.deepEqual(asked(slow, '/api/pull'), { all: 1, whole: 0 })
  assert.equal(await has(slow, big.name), false)
  await b.cluster.jobs.cancel(id)
  await assert.rejects(b.cluster.jobs.cancel('nobody'), { code: 'not_found' })
})

test('a spare takes the place of a node whose disk is full', async () => {
  const full = await aNode('full', { netMiBps: 10_000 })
  const spare = await aNode('spare', { netMiBps: 0 })
  full.control.diskFull(100)
  const id = await aPull(['full'], big.name, { spares: ['gone', 'spare'] })
  const { status } = await untilOver(id)
  assert.equal(status?.state, 'done')
  assert.deepEqual(states(id), { full: 'failed', spare: 'done' })
  assert.equal(status?.nodes['full']?.replacedBy, 'spare')
  assert.match(status?.nodes['full']?.error ?? '', /no space left on device/)
  assert.ok(await has(spare, big.name))
  const alone = await aPull(['full'])
  assert.equal((await untilOver(alone)).status?.state, 'failed')
})

test('a name that the registry does not know fails at once, in its words', async () => {
  const node = await aNode('x')
  const id = await aPull(['x'], 'nothing:latest')
  const { status } = await untilOver(id, 2000)
  assert.equal(status?.state, 'failed')
  assert.match(status?.nodes['x']?.error ?? '', /file does not exist/)
  assert.equal(asked(node, '/api/pull').all, 1)
})

test('a registry out of reach fails a pull within a second, in the words of the nodes (366)', async () => {
  const nodes = await Promise.all(['x', 'y'].map((name) => aNode(name)))
  for (const node of nodes) node.control.registryAway()
  for (const action of ['pull', 'push'] as const) {
    const model = action === 'pull' ? big.name : tiny.name
    const spec = { ...sketch, action, model, body: { model }, nodes: ['x', 'y'] }
    const { status } = await untilOver(await b.cluster.jobs.submit(spec), 2000)
    assert.equal(status?.state, 'failed')
    for (const { error } of Object.values(status?.nodes ?? {})) assert.match(error ?? '', /no such host/)
    for (const node of nodes) assert.equal(asked(node, `/api/${action}`).all, 1)
  }
})

test('a delete says on which node there was nothing to delete', async () => {
  const x = await aNode('x')
  await aNode('y', { models: [embedder] })
  const wanted = { ...sketch, action: 'delete', model: tiny.name, body: { model: tiny.name } } as const
  const { status } = await untilOver(await b.cluster.jobs.submit({ ...wanted, nodes: ['x', 'y'] }))
  assert.equal(status?.state, 'failed')
  assert.equal(status?.nodes['x']?.state, 'done')
  assert.deepEqual([status?.nodes['y']?.state, status?.nodes['y']?.code], ['failed', 404])
  assert.equal(await has(x, tiny.name), false)
  assert.equal(await a.gauge('job_results_total'), 1)
  b.cluster.measure()
  const { values } = await b.metrics.jobs.get()
  assert.deepEqual(
    values.filter(({ value }) => value > 0).map(({ labels, value }) => `${labels.state} ${value}`),
    ['failed 1'],
  )
})

test('models are loaded and unloaded, those that only embed too', async () => {
  const node = await aNode('x')
  for (const model of [tiny.name, embedder.name]) {
    const wanted = { ...sketch, model, nodes: ['x'], body: { model } }
    const load = await b.cluster.jobs.submit({ ...wanted, action: 'load' })
    assert.equal((await untilOver(load)).status?.state, 'done')
    assert.ok((await inMemory(node)).includes(model), model)
    const unload = await b.cluster.jobs.submit({ ...wanted, action: 'unload' })
    assert.equal((await untilOver(unload)).status?.state, 'done')
    assert.deepEqual(await inMemory(node), [])
  }
})

test('an unload is over when what ran is done and the memory is free (367)', async () => {
  const node = await aNode('x')
  const running = fetch(`${node.url}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: tiny.name, prompt: 'x', options: { num_predict: 40 } }),
  })
  await eventually(() => node.stats().tokens > 0, 'a token')
  const wanted = { ...sketch, action: 'unload', model: tiny.name, body: { model: tiny.name } } as const
  const { status } = await untilOver(await b.cluster.jobs.submit({ ...wanted, nodes: ['x'] }))
  assert.deepEqual(await inMemory(node), [])
  assert.equal(status?.state, 'done')
  assert.match(await (await running).text(), /"done":true/)
})

test('jobs for one model on one node take turns in their order', async () => {
  const node = await aNode('x', { netMiBps: 10_000 })
  const pull = await aPull(['x'])
  const wanted = { ...sketch, action: 'delete', model: big.name, body: { model: big.name } } as const
  const remove = await b.cluster.jobs.submit({ ...wanted, nodes: ['x'] })
  assert.equal((await untilOver(remove)).status?.state, 'done')
  assert.equal(seen(pull).status?.state, 'done')
  assert.equal(await has(node, big.name), false)
})

test('a node that leaves the fleet fails its part of a job, with the reason', async () => {
  await aNode('other')
  await aNode('x', { netMiBps: 100 })
  const id = await aPull(['x'])
  await eventually(() => completed(id, 'x') > 0, 'the pull is under way', 4000)
  store.delete(keys.node('x'))
  const { status } = await untilOver(id)
  assert.equal(status?.state, 'failed')
  assert.match(status?.nodes['x']?.error ?? '', /not in the fleet/)
})

test('a record that cannot be read is left alone, and spoken of once', async () => {
  await aNode('x')
  store.put(keys.job('typo'), '{"action": "pull"')
  const id = await aPull(['x'], tiny.name)
  await untilOver(id)
  assert.deepEqual(
    b.cluster.jobs.list().map((job) => job.id),
    [id],
  )
  assert.equal(store.value(keys.job('typo')), '{"action": "pull"')
  assert.equal(store.value(keys.jobState('typo')), undefined)
  assert.equal(a.logged.warn.filter((line) => line.includes('cannot be read')).length, 1)
})

test('a job without a leader, or too large for the store, is refused', async () => {
  await assert.rejects(aPull(['x'], 'm'.repeat(250_000)), { code: 'job_too_large' })
  a.cluster.setDraining(true)
  b.cluster.setDraining(true)
  await eventually(() => b.cluster.view.leader() === null, 'nobody leads')
  await assert.rejects(aPull(['x']), { code: 'no_leader' })
})

test('a follower of a job learns its end also when the job is deleted', async () => {
  await aNode('x', { netMiBps: 100 })
  const id = await aPull(['x'])
  const heard: (string | undefined)[] = []
  b.cluster.jobs.follow(id, ({ status }) => heard.push(status?.state))
  await eventually(() => heard.includes('running'), 'begun')
  store.delete(keys.job(id))
  await eventually(() => heard.at(-1) === 'cancelled', 'the end is told')
  await eventually(() => store.value(keys.jobState(id)) === undefined, 'its state is gone')
})
