import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const models = [
  aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 }),
  aModel({ name: 'n:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 }),
]
const ttlMs = 10_000
const root = '/llamero/default'

suite('three instances, one etcd and four nodes', () => {
  let etcd: Etcd
  let nodes: SimulatedNode[]
  let instances: InstanceProcess[]
  const running = () => instances.filter(({ name }) => !killed.has(name))
  const killed = new Set<string>()

  before(async () => {
    etcd = await startEtcd()
    nodes = await Promise.all(
      ['n1', 'n2', 'n3', 'n4'].map((name) => SimulatedNode.start({ name, models, numParallel: 4 })),
    )
    instances = await Promise.all(
      ['a', 'b', 'c'].map((name) => InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint })),
    )
    for (const { name, url } of nodes.slice(0, 3)) {
      const added = await instances[0]!.cli('node', 'add', name, url, '--slots', '4')
      assert.equal(added.code, 0, added.stderr)
    }
    await Promise.all(
      instances.map((instance) => until(() => routes(instance), `${instance.name} routes`, 10_000)),
    )
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    await etcd.stop()
  })

  test('all three route', async () => {
    for (const { url } of instances) assert.equal(await askOnce(url, 'm:1b'), null)
  })

  test('exactly one leads, and every instance names the same', async () => {
    const leads = await Promise.all(
      instances.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/leader`)).ok),
    )
    assert.equal(leads.filter(Boolean).length, 1)
    const named = await Promise.all(instances.map(leaderOf))
    assert.equal(new Set(named).size, 1)
    assert.equal(
      (await etcdctl(etcd.endpoint, 'get', '--print-value-only', '/llamero/default/leader')).trim(),
      named[0],
    )
  })

  test('a node added on one is in force on the others within a second', async () => {
    const { name, url } = nodes[3]!
    assert.equal((await instances[0]!.cli('node', 'add', name, url, '--slots', '4')).code, 0)
    const took = await Promise.all(
      instances.map((instance) =>
        until(async () => hasNode(instance, name), `${instance.name} knows it`, 5000),
      ),
    )
    assert(Math.max(...took) <= 1000, `${took} ms`)
  })

  test('a route put with etcdctl is in force within a second, everywhere', async () => {
    await etcdctl(
      etcd.endpoint,
      'put',
      '/llamero/default/routes/alias',
      'match: {model: "alias*"}\nmodel: m:1b\n',
    )
    const took = await Promise.all(
      instances.map(({ url }) =>
        until(async () => (await askOnce(url, 'alias')) === null, 'alias answers', 5000),
      ),
    )
    assert(Math.max(...took) <= 1000, `${took} ms, one request included`)
  })

  test('a broken route keeps the old one in force, and its verdict is readable beside it', async () => {
    await etcdctl(
      etcd.endpoint,
      'put',
      '/llamero/default/routes/alias',
      'match:\n  modle: "alias*"\nmodel: m:1b\n',
    )
    const verdict = async () =>
      JSON.parse(
        await etcdctl(etcd.endpoint, 'get', '--print-value-only', '/llamero/default/status/routes/alias'),
      )
    await until(async () => (await verdict()).ok === false, 'the verdict says no', 2000)
    const [error] = (await verdict()).errors
    assert.deepEqual([error.path, error.line, error.hint], ['match.modle', 2, 'did you mean "model"?'])
    for (const { url } of instances) assert.equal(await askOnce(url, 'alias'), null)
    await etcdctl(
      etcd.endpoint,
      'put',
      '/llamero/default/routes/alias',
      'match: {model: "alias*"}\nmodel: n:1b\n',
    )
    await until(async () => (await verdict()).ok === true, 'the verdict says yes', 2000)
  })

  test('a key made on one instance opens the others', async () => {
    const made = await instances[1]!.cli('key', 'create', 'team', '-o', 'json')
    assert.equal(made.code, 0, made.stderr)
    const { token } = JSON.parse(made.stdout) as { token: string }
    const headers = { authorization: `Bearer ${token}` }
    await until(
      async () => (await fetch(`${instances[2]!.url}/api/tags`, { headers })).ok,
      'the key is known',
      2000,
    )
    const stored = await etcdctl(etcd.endpoint, 'get', '--prefix', '/llamero/')
    assert(!stored.includes(token), 'the token itself is in etcd')
    const revoked = await instances[0]!.cli('key', 'revoke', 'team', '-y')
    assert.equal(revoked.code, 0, revoked.stderr)
    await until(
      async () => (await fetch(`${instances[2]!.url}/api/tags`, { headers })).status === 401,
      'the key is gone',
      1000,
    )
  })

  test('an instance that joins knows what the leader has learned', async () => {
    const leader = (await leading(instances))!
    for (let nth = 0; nth < 8; nth++) assert.equal(await askOnce(leader.url, 'm:1b'), null)
    const stored = () =>
      etcdctl(etcd.endpoint, 'get', '--prefix', '--print-value-only', `${root}/state/nodes/`)
    await until(async () => (await stored()).includes('"m:1b\\n":{"decode"'), 'it is told to all', 8000)
    const late = await InstanceProcess.start('late', { LLAMERO_ETCD: etcd.endpoint })
    try {
      await until(() => routes(late), 'the new one routes', 10_000)
      const known = await decodeSeconds(late)
      for (const [node, seconds] of await decodeSeconds(leader)) {
        const ratio = (known.get(node) ?? 0) / seconds
        // Whoever has learned nothing is off by five: simulated models are faster than their size lets expect.
        assert(ratio > 0.5 && ratio < 2, `${node}: ${known.get(node)} s for ${seconds} s`)
      }
    } finally {
      await late.stop()
    }
  })

  test('a killed leader is replaced within its TTL and a second; requests through the others do not fail', async () => {
    const leader = (await leading(running()))!
    killed.add(leader.name)
    await using load = new Load(() => running().map(({ url }) => url), 'm:1b', 4)
    leader.signal('SIGKILL')
    const took = await until(async () => (await leading(running())) !== undefined, 'another leads', 20_000)
    await load.stop()
    assert(took <= ttlMs + 1000, `${took} ms`)
    assert.deepEqual(load.failures, [])
    assert(load.completed > 20, `${load.completed} requests`)
  })

  test('a leader asked to stop hands over at once and exits with 0', async () => {
    const leader = (await leading(running()))!
    killed.add(leader.name)
    leader.signal('SIGINT')
    const took = await until(
      async () => (await fetch(`${running()[0]!.adminUrl}/leader`)).ok,
      'the last one leads',
      5000,
    )
    assert(took <= 1500, `${took} ms`)
    assert.equal(await leader.exited(), 0)
  })
})

/** The instance that says of itself that it leads: the key in etcd may be that of a leader long gone. */
async function leading(instances: readonly InstanceProcess[]): Promise<InstanceProcess | undefined> {
  const leads = await Promise.all(
    instances.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/leader`)).ok),
  )
  return instances[leads.indexOf(true)]
}

async function leaderOf(instance: InstanceProcess): Promise<string | null> {
  const { leader } = (await instance.admin('status')) as { leader: { id: string } | null }
  return leader?.id ?? null
}

/** How long each node is expected to write an answer of the model. */
async function decodeSeconds({ adminUrl, env }: InstanceProcess): Promise<Map<string, number>> {
  const token = (await readFile(adminTokenFile(env['LLAMERO_STATE'] ?? ''), 'utf8')).trim()
  const answer = await fetch(`${adminUrl}/admin/v1/routes/test`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"model":"m:1b"}',
  })
  const { estimate } = (await answer.json()) as {
    estimate: { candidates: { node: string; decode_seconds: number }[] }
  }
  return new Map(estimate.candidates.map(({ node, decode_seconds }) => [node, decode_seconds]))
}

async function hasNode(instance: InstanceProcess, name: string): Promise<boolean> {
  return (await fetch(`${instance.adminUrl}/admin/v1/nodes/${name}`)).ok
}

async function routes({ adminUrl }: InstanceProcess): Promise<boolean> {
  return (await fetch(`${adminUrl}/readyz?model=m:1b`)).ok
}
