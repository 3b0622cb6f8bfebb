import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const root = '/llamero/default/'

suite('two instances whose etcd is written to by hand', () => {
  let etcd: Etcd
  let node: SimulatedNode
  let instances: InstanceProcess[]
  let roads: Map<string, FaultProxy>

  const put = (key: string, value: string, ...options: readonly string[]) =>
    etcdctl(etcd.endpoint, 'put', `${root}${key}`, value, ...options)
  const read = async (key: string) =>
    (await etcdctl(etcd.endpoint, 'get', '--print-value-only', `${root}${key}`)).trim()
  const saysLeader = async ({ adminUrl }: InstanceProcess) => (await fetch(`${adminUrl}/leader`)).ok
  /** The instance that leads by its own word and by the key, which lives under a lease. */
  const leader = async (withinMs: number): Promise<InstanceProcess> => {
    let found: InstanceProcess | undefined
    await until(
      async () => {
        const leading = await Promise.all(instances.map(saysLeader))
        assert.ok(leading.filter(Boolean).length <= 1, 'never two')
        found = instances[leading.indexOf(true)]
        const [kv] =
          JSON.parse(await etcdctl(etcd.endpoint, 'get', `${root}leader`, '--write-out=json')).kvs ?? []
        return found !== undefined && kv?.lease && (await read('leader')) === found.name
      },
      'one leads',
      withinMs,
    )
    return found as InstanceProcess
  }
  const leaseOf = async (seconds: number) =>
    /lease (\w+) granted/.exec(await etcdctl(etcd.endpoint, 'lease', 'grant', String(seconds)))?.[1] ?? ''

  before(async () => {
    etcd = await startEtcd()
    const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
    node = await SimulatedNode.start({ name: 'n', models })
    await put('nodes/n', `url: ${node.url}`)
    roads = new Map(['a', 'b'].map((name) => [name, new FaultProxy(etcd.endpoint)]))
    instances = await Promise.all(
      [...roads].map(async ([name, road]) =>
        InstanceProcess.start(name, { LLAMERO_ETCD: await road.open() }),
      ),
    )
    await leader(15_000)
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    for (const road of roads.values()) await road.close()
    await node.stop()
    await etcd.stop()
  })

  test('have a leader again within seconds after any value was put over its key, and fail no request (307)', async () => {
    await using load = new Load(() => instances.map(({ url }) => url), 'm:1b', 1)
    await put('leader', 'x')
    await leader(4000)
    await put('leader', 'b', `--lease=${await leaseOf(600)}`)
    await leader(4000)
    await put('state/nodes/n', '{"fence": "99999999999999999999", "health": "down"}')
    await put('state/heartbeat', '{"fence": "99999999999999999999", "n": -1}')
    await put('meta/uid', 'garbage')
    await put('instances/a', 'garbage')
    await put(
      'instances/ghost',
      JSON.stringify({ ...JSON.parse(await read('instances/b')), id: 'ghost', successor: 'x' }),
    )
    await put('load/ghost', 'garbage')
    const after = await leader(10_000)
    await until(async () => (await read('instances/a')).includes('"boot"'), 'the record is put again', 3000)
    const isWhole = async () => JSON.parse(await read('state/nodes/n')).health === 'up'
    await until(isWhole, 'the leader writes what it sees over that', 5000)
    await after.cli('instance', 'step-down')
    await leader(5000)
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  test('have a leader again when the one that led dies and a key without a lease stands in its place (307)', async () => {
    const former = await leader(5000)
    const road = roads.get(former.name)
    former.signal('SIGSTOP')
    road?.cut()
    await put('leader', 'x')
    const others = instances.filter((each) => each !== former)
    await until(async () => saysLeader(others[0] as InstanceProcess), 'the other one leads', 12_000)
    former.signal('SIGCONT')
    for (let n = 0; n < 20; n++) {
      assert.equal(
        await saysLeader(former),
        false,
        'woken, with etcd out of reach, it does not say that it leads',
      )
      await sleep(20)
    }
    road?.heal()
    assert.equal(await leader(5000), others[0])
  })
})
