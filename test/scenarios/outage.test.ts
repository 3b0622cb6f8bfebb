import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'

interface Fault {
  readonly path: string
  readonly line: number | null
  readonly message: string
  readonly hint?: string
}

interface Verdict {
  readonly ok: boolean
  readonly errors: readonly Fault[]
  readonly stored: string
  readonly active: string | null
}

interface Status {
  readonly advice: string
  readonly config: { readonly source: string; readonly suspect: string | null }
}

suite('two instances and two nodes, and an etcd that lets them down', () => {
  let etcd: Etcd
  let nodes: SimulatedNode[]
  let instances: InstanceProcess[]
  let backups: string
  /** A backup from before there were nodes. */
  let early: string
  const first = () => instances[0] as InstanceProcess
  const put = (key: string, value: string | Buffer) => etcdctlPut(etcd.endpoint, root + key, value)
  const putNodes = async () => {
    for (const { name, url } of nodes) await put(`nodes/${name}`, `{url: "${url}", slots: 4}`)
  }
  /** Until every instance says so. */
  const all = (condition: (instance: InstanceProcess) => Promise<boolean>, what: string, withinMs: number) =>
    Promise.all(instances.map((instance) => until(() => condition(instance), what, withinMs)))

  before(async () => {
    etcd = await startEtcd()
    nodes = await Promise.all(
      ['n1', 'n2'].map((name) => SimulatedNode.start({ name, models, numParallel: 4 })),
    )
    instances = await Promise.all(
      ['a', 'b'].map((name) => InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint })),
    )
    backups = await mkdtemp(join(tmpdir(), 'llamero-backups-'))
    early = join(backups, 'early')
    const uid = () => etcdctl(etcd.endpoint, 'get', `${root}meta/uid`)
    await until(async () => (await uid()) !== '', 'the store has a uid', 5000)
    await etcdctl(etcd.endpoint, 'snapshot', 'save', early)
    await putNodes()
    await all(routes, 'every instance routes', 10_000)
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    await etcd.stop()
    await rm(backups, { recursive: true })
  })

  test('each kind of typo keeps the good version, has a verdict within 2 s, and mends within 1 s', async () => {
    const url = 'http://10.0.0.1:11434'
    const good = (weight: number) => `{url: "${url}", weight: ${weight}, state: "off"}`
    const verdict = async () =>
      JSON.parse(
        await etcdctl(etcd.endpoint, 'get', '--print-value-only', `${root}status/nodes/typed`),
      ) as Verdict
    const weight = async ({ adminUrl }: InstanceProcess) =>
      ((await (await fetch(`${adminUrl}/admin/v1/nodes/typed`)).json()) as { weight: number }).weight
    const typos: readonly { text: string | Buffer; path: string; line: number | null; says: RegExp }[] = [
      { text: `url: ${url}\nlabels: {gpu: a100\n`, path: '', line: 3, says: /without its \}/ },
      { text: `url: ${url}\nweight: heavy\n`, path: 'weight', line: 2, says: /must be a number/ },
      { text: `url: ${url}\nwieght: 2\n`, path: 'wieght', line: 2, says: /did you mean "weight"\?/ },
      { text: ' ', path: '', line: null, says: /is empty/ },
      { text: 'just some words', path: '', line: 1, says: /must be a map/ },
      { text: 'url: 10.0.0.1:11434\n', path: 'url', line: 1, says: /write http:\/\/HOST:11434/ },
      { text: `url: ${url}\nweight: -1\n`, path: 'weight', line: 2, says: /at least 0/ },
      { text: `url: ${url}\nstate: actve\n`, path: 'state', line: 2, says: /"active"/ },
      { text: `url: ${url}\nweight: 1\nweight: 2\n`, path: 'weight', line: 3, says: /occurs twice/ },
      { text: `url: ${url}\nlabels:\n\tgpu: a100\n`, path: '', line: 3, says: /Tabs/ },
      { text: 'url: http://u:p@10.0.0.1:11434\n', path: 'url', line: 1, says: /"headers"/ },
      { text: `{url: "${nodes[0]?.url}"}`, path: 'url', line: null, says: /the URL of node "n1"/ },
      { text: `url: ${url}\n# ${'x'.repeat(300 * 1024)}\n`, path: '', line: null, says: /limit/ },
      { text: Buffer.from([0xff, 0xfe, 0x00, 0x80]), path: '', line: 1, says: /./ },
      { text: 'weight: 1\n', path: 'url', line: null, says: /is required/ },
    ]
    await put('nodes/typed', good(1))
    await all(async (instance) => (await weight(instance)) === 1, 'the node is known', 2000)
    for (const [index, { text: typo, path, line, says }] of typos.entries()) {
      const text = String(typo).slice(0, 80)
      await put('nodes/typed', typo)
      await until(async () => !(await verdict()).ok, `the verdict on ${text}`, 2000)
      const { errors, active, stored } = await verdict()
      const [fault] = errors
      assert.deepEqual([fault?.path, fault?.line], [path, line], text)
      assert.match(`${fault?.message} ${fault?.hint ?? ''}`, says)
      assert.ok(active !== null && BigInt(active) < BigInt(stored), text)
      for (const instance of instances) assert.equal(await weight(instance), index + 1, text)
      await put('nodes/typed', good(index + 2))
      await all(async (instance) => (await weight(instance)) === index + 2, `${text} is mended`, 1000)
      await until(async () => (await verdict()).ok, `the good verdict after ${text}`, 2000)
    }
    await etcdctl(etcd.endpoint, 'del', `${root}nodes/typed`)
  })

  test('an etcd restored from a backup without the nodes stops no traffic, and from a good one is believed at once', async () => {
    await using load = new Load(() => instances.map(({ url }) => url), 'm:1b', 4)
    await until(async () => (await leaders()) === 1, 'somebody leads', 15_000)
    const good = join(backups, 'good')
    await etcdctl(etcd.endpoint, 'snapshot', 'save', good)
    await restore(early)
    await all(async (instance) => (await status(instance)).config.suspect !== null, 'suspect', 10_000)
    await new Promise((resolve) => setTimeout(resolve, 500))
    for (const { log } of instances) assert.equal(log.split('store suspect').length, 2, 'one alarm')
    await restore(good)
    await all(async (instance) => (await status(instance)).config.suspect === null, 'believed', 5000)
    await put('routes/back', '{match: {model: "back*"}, model: "m:1b"}')
    await all(async ({ url }) => (await askOnce(url, 'back')) === null, 'it is in force', 2000)
    await etcdctl(etcd.endpoint, 'del', `${root}routes/back`)
    await until(async () => load.completed > 100, 'the load goes on', 20_000)
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  test('a wiped etcd stops no traffic, is said to be suspect, and is believed once its documents are back', async () => {
    await using load = new Load(() => instances.map(({ url }) => url), 'm:1b', 4)
    await until(async () => (await leaders()) === 1, 'somebody leads', 15_000)
    const port = Number(new URL(etcd.endpoint).port)
    await etcd.stop()
    etcd = await startEtcd({ port })
    await all(async (instance) => (await status(instance)).config.suspect !== null, 'suspect', 10_000)
    assert.match((await status(first())).config.suspect ?? '', /uid/)
    await until(async () => (await leaders()) === 1, 'somebody leads in the new history', 20_000)
    await putNodes()
    await all(async (instance) => (await status(instance)).config.suspect === null, 'believed', 2000)
    await put('routes/alias', '{match: {model: "alias*"}, model: "m:1b"}')
    await all(
      async ({ url }) => (await askOnce(url, 'alias')) === null,
      'what is written now is in force',
      2000,
    )
    await until(async () => load.completed > 100, 'the load goes on', 20_000)
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  /** In the place of this etcd, at its address. */
  async function restore(backup: string): Promise<void> {
    const port = Number(new URL(etcd.endpoint).port)
    const dir = join(backups, `restored-${performance.now()}`)
    await etcd.stop()
    await etcdctl(etcd.endpoint, 'snapshot', 'restore', backup, '--data-dir', dir)
    etcd = await startEtcd({ port, dir })
  }

  async function leaders(): Promise<number> {
    const answers = await Promise.all(instances.map(({ adminUrl }) => fetch(`${adminUrl}/leader`)))
    return answers.filter(({ ok }) => ok).length
  }
})

async function status(instance: InstanceProcess): Promise<Status> {
  return (await instance.admin('status')) as unknown as Status
}

async function routes({ adminUrl }: InstanceProcess): Promise<boolean> {
  return (await fetch(`${adminUrl}/readyz?model=m:1b`)).ok
}
