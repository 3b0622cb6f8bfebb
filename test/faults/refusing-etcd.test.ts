import assert from 'node:assert/strict'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { Etcd3 } from 'etcd3'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { type Etcd, etcdctl, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'
import { Authority } from './certificates.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'

interface Status {
  readonly store: {
    readonly ok: boolean
    readonly state: string
    readonly problem: { readonly kind: string; readonly reason: string; readonly remedy: string } | null
  }
  readonly advice: string
  readonly leader: { readonly id: string } | null
}

const statusOf = async (instance: InstanceProcess) => (await instance.admin('status')) as unknown as Status

async function metric(instance: InstanceProcess, series: string): Promise<number> {
  const text = await (await fetch(`${instance.adminUrl}/metrics`)).text()
  const lines = text.split('\n').filter((line) => line.startsWith(series))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

async function healthOf(instance: InstanceProcess, node: string): Promise<string> {
  const { nodes } = (await instance.admin('nodes')) as unknown as {
    nodes: readonly { readonly name: string; readonly health: string }[]
  }
  return nodes.find(({ name }) => name === node)?.health ?? 'unknown'
}

/** Every instance says in each of its ways that the store refuses, and what to do. */
async function assertTold(
  instance: InstanceProcess,
  kind: string,
  state: string,
  remedy: RegExp,
): Promise<void> {
  await until(
    async () => (await statusOf(instance)).store.state === state,
    `${instance.name}: ${state}`,
    16_000,
  )
  const { store } = await statusOf(instance)
  assert.equal(store.ok, false)
  assert.equal(store.problem?.kind, kind)
  assert.match(store.problem?.remedy ?? '', remedy)
  assert.equal(await metric(instance, `llamero_store_trouble{kind="${kind}"}`), 1)
  const { stdout, stderr } = await instance.cli('status')
  assert.match(stdout, state === 'read-only' ? /READ-ONLY since/ : /REFUSED since/)
  assert.match(stderr, remedy)
  const ready = await fetch(`${instance.adminUrl}/readyz`)
  assert.equal(ready.status, 200, 'traffic goes on')
  assert.match(await ready.text(), new RegExp(`^ready\nstore: ${state}, `))
  const lines = instance.log
    .split('\n')
    .filter((line) => /the store (is read-only|refuses everything)/.test(line))
  assert.equal(lines.length, 1, lines.join('\n'))
  assert.match(lines[0] ?? '', remedy)
}

suite('two instances and an etcd over its quota', () => {
  let etcd: Etcd
  let nodes: SimulatedNode[]
  let instances: InstanceProcess[]

  before(async () => {
    etcd = await startEtcd({ flags: { 'quota-backend-bytes': String(4 * 1024 * 1024) } })
    nodes = await Promise.all(['n', 'm'].map((name) => SimulatedNode.start({ name, models })))
    for (const { name, url } of nodes)
      await etcdctl(etcd.endpoint, 'put', `${root}nodes/${name}`, `url: ${url}`)
    instances = await Promise.all(
      ['a', 'b'].map((name) => InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint })),
    )
    for (const instance of instances)
      for (const node of ['n', 'm'])
        await until(async () => (await healthOf(instance, node)) === 'up', 'both nodes are up', 10_000)
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    await etcd.stop()
  })

  test('say so, read the store directly, do not relist, fail no request, and follow again when it has room (308)', async (t) => {
    const leaderId = (await statusOf(instances[0] as InstanceProcess)).leader?.id
    const leader = instances.find(({ name }) => name === leaderId) as InstanceProcess
    await using load = new Load(() => instances.map(({ url }) => url), 'm:1b', 1)
    const relists = await Promise.all(instances.map((each) => metric(each, 'llamero_store_relists_total')))
    const filler = Buffer.alloc(1024 * 1024, 'x')
    for (let n = 0; n < 10; n++) await etcdctlPut(etcd.endpoint, `/filler/${n}`, filler).catch(() => {})
    assert.match(await etcdctl(etcd.endpoint, 'alarm', 'list'), /NOSPACE/)
    const reader = new EtcdStore({ endpoints: [etcd.endpoint], clock: new RealClock(), log: silentLog })
    t.after(() => reader.close())
    const readerSees = async (kind: string | undefined) => {
      await reader.newest(root)
      return reader.condition.trouble?.kind === kind
    }
    await until(() => readerSees('no-space'), 'what writes nothing learns of it too', 5000)
    for (const instance of instances) await assertTold(instance, 'no-space', 'read-only', /alarm disarm/)

    await nodes[0]?.control.refuse()
    for (const instance of [leader, ...instances])
      await until(
        async () => (await healthOf(instance, 'n')) === 'down',
        `${instance.name} sees it die`,
        15_000,
      )
    assert.equal((await statusOf(leader)).advice, 'own')
    assert.equal((await statusOf(leader)).leader?.id, leaderId, 'it leads on')
    await nodes[0]?.control.accept()
    await until(async () => (await healthOf(leader, 'n')) === 'up', 'and come back', 10_000)
    const anew = await Promise.all(instances.map((each) => metric(each, 'llamero_store_relists_total')))
    assert.deepEqual(anew, relists, 'refusals break no watch')

    await etcdctl(etcd.endpoint, 'del', '--prefix', '/filler/')
    const [answer] = JSON.parse(await etcdctl(etcd.endpoint, 'endpoint', 'status', '--write-out=json'))
    await etcdctl(etcd.endpoint, 'compaction', String(answer.Status.header.revision))
    await etcdctl(etcd.endpoint, 'defrag')
    await etcdctl(etcd.endpoint, 'alarm', 'disarm')
    await until(() => readerSees(undefined), 'and that it has room', 5000)
    for (const instance of instances) {
      await until(async () => (await statusOf(instance)).store.ok, `${instance.name} is ok again`, 16_000)
      await until(async () => (await statusOf(instance)).advice === 'leader', 'and heeds the leader', 10_000)
      assert.equal(await metric(instance, 'llamero_store_trouble'), 0)
    }
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  test('say that etcd has an alarm for corrupt data, and follow again when the alarm is gone (308)', async () => {
    const client = new Etcd3({ hosts: etcd.endpoint })
    await using load = new Load(() => instances.map(({ url }) => url), 'm:1b', 1)
    try {
      for (const instance of instances) assert.ok((await statusOf(instance)).store.ok)
      await client.maintenance.alarm({ action: 'Activate', alarm: 'Corrupt' })
      for (const instance of instances) {
        await until(async () => (await statusOf(instance)).store.state === 'refused', 'refused', 16_000)
        const { problem } = (await statusOf(instance)).store
        assert.equal(problem?.kind, 'corrupt')
        assert.match(problem?.remedy ?? '', /endpoint hashkv/)
      }
      await client.maintenance.alarm({ action: 'Deactivate', alarm: 'Corrupt' })
      for (const instance of instances)
        await until(async () => (await statusOf(instance)).store.ok, 'ok again', 16_000)
      await load.stop()
      assert.deepEqual(load.failures, [])
    } finally {
      client.close()
    }
  })
})

suite('an instance whose etcd user may only read', () => {
  let dir: string
  let authority: Authority
  let etcd: Etcd
  let node: SimulatedNode
  let instance: InstanceProcess
  const asRoot = () => [
    '--cacert',
    join(dir, 'ca'),
    '--cert',
    join(dir, 'root'),
    '--key',
    join(dir, 'root.key'),
  ]

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'llamero-read-only-'))
    authority = await Authority.create()
    await copyFile(authority.cert, join(dir, 'ca'))
    for (const [name, hosts] of [['etcd', 'IP:127.0.0.1'], ['root'], ['llamero']] as const) {
      const { cert, key } = await authority.issue({ commonName: name, ...(hosts && { hosts }) })
      await copyFile(cert, join(dir, name))
      await copyFile(key, join(dir, `${name}.key`))
    }
    etcd = await startEtcd({
      flags: {
        'cert-file': join(dir, 'etcd'),
        'key-file': join(dir, 'etcd.key'),
        'trusted-ca-file': join(dir, 'ca'),
        'client-cert-auth': 'true',
      },
    })
    node = await SimulatedNode.start({ name: 'n', models })
    for (const command of [
      ['put', `${root}nodes/n`, `url: ${node.url}`],
      ['user', 'add', 'root', '--no-password'],
      ['user', 'grant-role', 'root', 'root'],
      ['role', 'add', 'reader'],
      ['role', 'grant-permission', 'reader', '--prefix=true', 'read', root],
      ['user', 'add', 'llamero', '--no-password'],
      ['user', 'grant-role', 'llamero', 'reader'],
      ['auth', 'enable'],
    ])
      await etcdctl(etcd.endpoint, ...asRoot(), ...command)
    instance = await InstanceProcess.start('a', {
      LLAMERO_ETCD: etcd.endpoint,
      LLAMERO_ETCD_CA: join(dir, 'ca'),
      LLAMERO_ETCD_CERT: join(dir, 'llamero'),
      LLAMERO_ETCD_KEY: join(dir, 'llamero.key'),
    })
  })
  after(async () => {
    await instance.stop()
    await node.stop()
    await etcd.stop()
    await authority.delete()
    await rm(dir, { recursive: true })
  })

  test('says what to grant, serves by its own probes, and registers once it may write (308)', async () => {
    await assertTold(instance, 'no-permission', 'read-only', /grant it a role with readwrite on the prefix/)
    await until(async () => (await healthOf(instance, 'n')) === 'up', 'it looks for itself', 12_000)
    await using load = new Load(() => [instance.url], 'm:1b', 1)
    await etcdctl(
      etcd.endpoint,
      ...asRoot(),
      'role',
      'grant-permission',
      'reader',
      '--prefix=true',
      'readwrite',
      root,
    )
    await until(async () => (await statusOf(instance)).store.ok, 'ok', 10_000)
    await until(async () => (await fetch(`${instance.adminUrl}/leader`)).ok, 'it leads', 10_000)
    await load.stop()
    assert.deepEqual(load.failures, [])
  })
})
