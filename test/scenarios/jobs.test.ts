import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { Ollama, type ProgressResponse } from 'ollama'
import { isOver, type JobState } from '../../lib/fleet/job.ts'
import { aModel, type ModelDefinition } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { has, type Job, JobWatch, jobAt, modelsAt } from '../support/job-watch.ts'
import { InstanceProcess, until } from '../support/processes.ts'

/** Each takes more than three seconds, and how far it is is told every second. */
const [large, failing, cancelled, orphaned] = ['large', 'failing', 'cancelled', 'orphaned'].map((name) =>
  aModel({ name: `${name}:8b`, sizeMiB: 5120 }),
) as [ModelDefinition, ModelDefinition, ModelDefinition, ModelDefinition]
const registry = [large, failing, cancelled, orphaned]
const netMiBps = 1500

interface Caller {
  readonly id: string
  /** What it was told, without the error at the end. */
  readonly statuses: readonly string[]
  /** Resolves to the message of the error that it ended with, null when there was none. */
  readonly ended: Promise<string | null>
  leave(): void
}

suite('models pulled to three nodes by three instances', () => {
  let etcd: Etcd
  let nodes: SimulatedNode[]
  let instances: InstanceProcess[]
  let headers: { readonly authorization: string }

  before(async () => {
    etcd = await startEtcd()
    nodes = await Promise.all(
      ['n1', 'n2', 'n3'].map((name) => SimulatedNode.start({ name, models: [], registry, netMiBps })),
    )
    instances = await Promise.all(
      ['a', 'b', 'c'].map((name) => InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint })),
    )
    await etcdctl(etcd.endpoint, 'put', '/llamero/default/config', 'management: {copies: all}')
    await Promise.all(nodes.map(register))
    const made = await instances[0]!.cli('key', 'create', 'ops', '--scope', 'admin', '-o', 'json')
    headers = { authorization: `Bearer ${JSON.parse(made.stdout).token}` }
    await until(() => everyInstance(areUp), 'every node is up, everywhere', 10_000)
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    await etcd.stop()
  })

  test('5 GB are on all three although the caller leaves, the leader is killed and a node restarts', async () => {
    const [, restarted] = nodes as [SimulatedNode, SimulatedNode]
    const caller = await pull(await standby(), large.name)
    caller.leave()
    await using watch = new JobWatch(instances, nodes, caller.id, large.name)
    await kill(await leader())
    await until(async () => (await leader()) !== undefined, 'another leads', 12_000)
    await until(() => asked(restarted) === 2, 'it asks again', 3000)
    await restarted.control.restart({ downMs: 300 })
    const { state } = await over(caller.id)
    await watch.stop()
    assert.equal(state, 'done')
    assert.deepEqual(watch.lies, [])
    // The node that restarted has forgotten what it had in part.
    assert.deepEqual([...watch.losers], ['n2'])
    assert.deepEqual(nodes.map(asked), [2, 3, 2])
    for (const node of nodes) assert(await has(node, large.name), node.name)
    for (const instance of instances) {
      assert.deepEqual(statesOf(await jobAt(instance, caller.id)), { n1: 'done', n2: 'done', n3: 'done' })
      const { models } = await new Ollama({ host: instance.url }).list()
      assert.deepEqual(
        models.map(({ name }) => name),
        [large.name],
      )
      const [row] = await modelsAt(instance)
      assert.deepEqual([row?.nodes, row?.older_on ?? []], [['n1', 'n2', 'n3'], []])
    }
  })

  test('a node that is full and one that stays away are named, with the reason, and the caller hears of no success', async () => {
    const [, away, full] = nodes as [SimulatedNode, SimulatedNode, SimulatedNode]
    const { name } = failing
    full.control.diskFull(2000)
    const caller = await pull(await standby(), name)
    await using watch = new JobWatch(instances, nodes, caller.id, name)
    const back = away.control.restart({ downMs: 4000 })
    const told = async () => (await jobAt(await standby(), caller.id)).nodes['n2']
    const waits = async () => (await told())?.error === 'trying again: connection refused'
    await until(waits, 'what it waits for is told', 3500)
    assert.equal((await told())?.state, 'running')
    await etcdctl(etcd.endpoint, 'del', '/llamero/default/nodes/n2')
    const { state, nodes: reports } = await over(caller.id)
    const error = (await caller.ended) ?? ''
    await watch.stop()
    full.control.clear()
    await Promise.all([back, register(away)])
    assert.deepEqual([state, watch.lies], ['failed', []])
    assert.match(error, /pull failed on n3: write \S+: no space left on device/)
    assert.match(error, /pull failed on n2: it is not in the fleet any more/)
    assert.match(error, /; succeeded on n1$/)
    assert(!caller.statuses.includes('success'))
    assert.match(reports['n3']?.error ?? '', /no space left on device/)
    assert.deepEqual(await Promise.all(nodes.map((node) => has(node, name))), [true, false, false])
    for (const instance of instances)
      assert.deepEqual((await modelsAt(instance)).find((row) => row.name === name)?.nodes, ['n1'])
    await until(() => everyInstance(areUp), 'it is back', 10_000)
  })

  test('cancelled on another instance it ends for the caller, without a success, and on every node', async () => {
    const { name } = cancelled
    const caller = await pull(await standby(), name)
    const elsewhere = (await leader())!
    const init = { method: 'DELETE', headers }
    assert.equal((await fetch(`${elsewhere.adminUrl}/admin/v1/jobs/${caller.id}`, init)).status, 202)
    assert.match((await caller.ended) ?? '', /^pull was cancelled on n\d, n\d, n\d$/)
    assert(!caller.statuses.includes('success'))
    assert.equal((await over(caller.id)).state, 'cancelled')
    const isIdle = ({ requests }: SimulatedNode) => requests.every((each) => each.abortedAt ?? each.endedAt)
    await until(() => nodes.every(isIdle), 'no node goes on', 2000)
    for (const node of nodes) assert.equal(await has(node, name), false, node.name)
  })

  test('goes on when the instance dies that its caller was connected to', async () => {
    const { name } = orphaned
    const connected = (await standby())!
    const caller = await pull(connected, name)
    await kill(connected)
    assert.notEqual(await caller.ended, null)
    assert(!caller.statuses.includes('success'))
    assert.equal((await over(caller.id)).state, 'done')
    for (const node of nodes) assert(await has(node, name), node.name)
  })

  function register({ name, url }: SimulatedNode): Promise<string> {
    return etcdctl(etcd.endpoint, 'put', `/llamero/default/nodes/${name}`, `url: ${url}`)
  }

  /** Begins a pull; resolves when the nodes are at it. */
  async function pull({ url }: InstanceProcess, model: string): Promise<Caller> {
    const stream = await new Ollama({ host: url, headers }).pull({ model, stream: true })
    const begun = Promise.withResolvers<string>()
    const statuses: string[] = []
    const listen = async () => {
      for await (const line of stream as AsyncIterable<ProgressResponse & { llamero: { job: string } }>) {
        statuses.push(line.status)
        if (line.completed) begun.resolve(line.llamero.job)
      }
    }
    const ended = listen().then(
      () => null,
      (error: Error) => error.message,
    )
    void ended.then((message) => begun.reject(new Error(`it ended before it began: ${message}`)))
    return { id: await begun.promise, statuses, ended, leave: () => stream.abort() }
  }

  async function kill(instance: InstanceProcess | undefined): Promise<void> {
    instances = instances.filter((other) => other !== instance)
    await instance?.stop()
  }

  async function leader(): Promise<InstanceProcess | undefined> {
    const leads = await Promise.all(
      instances.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/leader`)).ok),
    )
    return instances[leads.indexOf(true)]
  }

  async function standby(): Promise<InstanceProcess> {
    const leading = await leader()
    return instances.find((instance) => instance !== leading)!
  }

  async function over(id: string): Promise<Job> {
    const isOverAt = async (instance: InstanceProcess) => isOver((await jobAt(instance, id)).state)
    await until(() => everyInstance(isOverAt), 'the job is over, everywhere', 15_000)
    return jobAt(instances[0]!, id)
  }

  async function everyInstance(holds: (instance: InstanceProcess) => Promise<boolean>): Promise<boolean> {
    return (await Promise.all(instances.map(holds))).every(Boolean)
  }

  async function areUp(instance: InstanceProcess): Promise<boolean> {
    const { nodes: views } = await instance.admin('nodes')
    return (views as { health: string }[]).filter(({ health }) => health === 'up').length === nodes.length
  }
})

function statesOf({ nodes }: Job): Record<string, JobState> {
  return Object.fromEntries(Object.entries(nodes).map(([name, { state }]) => [name, state]))
}

function asked({ requests }: SimulatedNode): number {
  return requests.filter(({ path }) => path === '/api/pull').length
}
