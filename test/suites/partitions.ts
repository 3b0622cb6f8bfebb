import assert from 'node:assert/strict'
import { after, afterEach, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { type Host, Network } from '../support/network.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const quick = 'm:1b'
/** As quick, and no outage has made an answer of it slow: what is usual decides how long silence may last. */
const unharmed = 'n:1b'
/** An answer takes a second, and three when three of them share a node. */
const slow = 'long:1b'
const models = [
  aModel({ name: quick, loadMs: 50, promptTps: 10_000, decodeTps: 2000 }),
  aModel({ name: unharmed, loadMs: 50, promptTps: 10_000, decodeTps: 2000 }),
  aModel({ name: slow, loadMs: 50, promptTps: 10_000, decodeTps: 40 }),
]
const statusRoutes = ['/api/version', '/api/tags', '/api/ps']
/** How much longer than without a fault a request may take. */
const mostExtraMs = 5000
/** Three answers of the slow model on one node, and the time of a busy machine. */
const expectedMs = 4000

interface Machine {
  readonly host: Host
  readonly instance: InstanceProcess
}

/**
 * Three instances on hosts of their own, an etcd and three nodes; ways between them are cut without a word. Wherever a
 * healthy node and an instance that reaches it remain, no request fails, and none waits for long.
 *
 * @param faultMs how long each fault lasts at least.
 */
export function partitions(faultMs: number): void {
  suite('three instances on three machines', () => {
    const network = new Network()
    let etcd: Etcd
    let nodes: SimulatedNode[]
    let machines: Machine[]
    const nodeAddresses = () => nodes.map(({ url }) => new URL(url).hostname)
    const urlsOf = (some: readonly Machine[]) => () => some.map(({ instance }) => instance.url)

    const leader = async (): Promise<Machine> => {
      let found: Machine | undefined
      await until(
        async () => {
          const answers = await Promise.all(machines.map(({ instance }) => answers200(instance, 'leader')))
          found = machines[answers.indexOf(true)]
          return found !== undefined
        },
        'an instance leads',
        20_000,
      )
      return found as Machine
    }
    const others = (than: Machine) => machines.filter((each) => each !== than)
    const isReady = ({ instance }: Machine) => answers200(instance, `readyz?model=${quick}`)

    before(async () => {
      etcd = await startEtcd({ host: network.ownAddress() })
      nodes = await Promise.all(
        ['n1', 'n2', 'n3'].map((name) =>
          SimulatedNode.start({ name, models, numParallel: 4, host: network.ownAddress() }),
        ),
      )
      const put = (key: string, value: object) =>
        etcdctlPut(etcd.endpoint, `/llamero/default/${key}`, JSON.stringify(value))
      await put('config', { auth: { addresses: [{ cidr: ['10.77.0.0/24'], scopes: ['inference'] }] } })
      for (const { name, url } of nodes) await put(`nodes/${name}`, { url, slots: 4 })
      machines = await Promise.all(
        ['a', 'b', 'c'].map(async (name) => {
          const host = network.host()
          const settings = { LLAMERO_ETCD: etcd.endpoint }
          return { host, instance: await InstanceProcess.start(name, settings, 'serve', host) }
        }),
      )
      await allReady()
      for (const { url } of machines.map(({ instance }) => instance))
        for (const model of [quick, slow]) assert.equal(await askOnce(url, model), null)
    })
    after(async () => {
      await Promise.all(machines.map(({ instance }) => instance.stop()))
      await Promise.all(nodes.map((node) => node.stop()))
      await etcd.stop()
    })
    afterEach(async () => {
      for (const { host } of machines) host.heal()
      for (const { control } of nodes) control.clear()
      await allReady()
    })

    async function allReady(): Promise<void> {
      await until(
        async () => (await Promise.all(machines.map(isReady))).every(Boolean),
        'all instances route',
        30_000,
      )
    }

    /**
     * Runs requests through some instances while `fault` lasts: each must be answered, and in time.
     *
     * @param usualMs what one takes without a fault.
     */
    async function served(
      through: readonly Machine[],
      fault: () => Promise<void>,
      usualMs = 0,
      model = quick,
    ): Promise<void> {
      await using load = new Load(urlsOf(through), model, 2 * through.length)
      await fault()
      await load.stop()
      const logs = () => through.map(({ instance }) => instance.log.slice(-3000)).join('\n')
      assert.deepEqual(load.failures, [], logs())
      assert(load.completed > 0)
      assert(
        load.longestMs <= usualMs + mostExtraMs,
        `the slowest request took ${Math.round(load.longestMs)} ms\n${logs()}`,
      )
    }

    test('a leader that reaches no node stops only itself, and hands over (301, 303)', async () => {
      const cut = await leader()
      await served(others(cut), async () => {
        cut.host.cutOffFrom(...nodeAddresses())
        await Promise.all([
          until(async () => !(await isReady(cut)), 'it says that it is not ready', 15_000),
          until(async () => (await leader()) !== cut, 'another one leads', 25_000),
          sleep(faultMs),
        ])
      })
      assert.match(await readyText(cut), /node/)
      for (const machine of others(cut)) assert(await isReady(machine))
    })

    test('a leader that starves marks no node down (301)', async () => {
      const starved = await leader()
      await served(others(starved), async () => {
        const end = performance.now() + faultMs
        while (performance.now() < end) {
          starved.instance.signal('SIGSTOP')
          await sleep(1200)
          starved.instance.signal('SIGCONT')
          await sleep(300)
          for (const machine of others(starved)) assert(await isReady(machine))
        }
      })
    })

    test('busy nodes whose status routes take 1.5 s go on serving (302)', async () => {
      await served(machines, async () => {
        for (const { control } of nodes)
          for (const path of statusRoutes) control.slowFirstByte(1500, { match: { path } })
        await sleep(faultMs)
        for (const machine of machines) assert(await isReady(machine))
      })
    })

    test('a standby that reaches no node is not ready while others are (303)', async () => {
      const leading = await leader()
      const [cut] = others(leading) as [Machine]
      await served(others(cut), async () => {
        cut.host.cutOffFrom(...nodeAddresses())
        await until(async () => !(await isReady(cut)), 'it says that it is not ready', 15_000)
        await sleep(faultMs / 4)
      })
      assert.equal(await leader(), leading)
    })

    test('answers that run on a node that vanishes come from another node (304)', async () => {
      const since = performance.now()
      const asked = Promise.all(machines.map(({ instance }) => askOnce(instance.url, slow)))
      await until(() => nodes.some(isAnswering), 'a node answers', 3000)
      const lost = new URL(nodes.find(isAnswering)?.url ?? '').hostname
      await served(
        machines,
        async () => {
          for (const { host } of machines) host.cutOffFrom(lost)
          assert.deepEqual((await asked).filter(Boolean), [])
          const tookMs = performance.now() - since
          assert(tookMs <= 2 * expectedMs + mostExtraMs, `the slowest answer took ${Math.round(tookMs)} ms`)
        },
        expectedMs,
      )
    })

    test('requests that wait while no node is reached are served once one is (304)', async () => {
      const asked = Promise.all(machines.map(({ instance }) => askOnce(instance.url, slow)))
      await sleep(500)
      for (const { host } of machines) host.cutOffFrom(...nodeAddresses())
      await sleep(faultMs / 2)
      for (const { host } of machines) host.heal()
      const healedAt = performance.now()
      assert.deepEqual((await asked).filter(Boolean), [])
      const tookMs = performance.now() - healedAt
      assert(tookMs <= expectedMs + mostExtraMs, `${Math.round(tookMs)} ms after the way was back`)
    })

    test('requests leave a node that swallows chats but answers probes (305)', async () => {
      const chats = (node: SimulatedNode) =>
        node.requests.filter(({ body }) => (body as { model?: string } | undefined)?.model === unharmed)
          .length
      for (const url of urlsOf(machines)()) assert.equal(await askOnce(url, unharmed), null)
      const fault = async () => {
        await until(() => nodes.some((node) => chats(node) > 60), 'a node is well known', 10_000)
        const [used] = nodes.toSorted((one, other) => chats(other) - chats(one)) as [SimulatedNode]
        const before = chats(used)
        used.control.blackhole({ match: { path: '/api/chat' } })
        await sleep(faultMs)
        assert(chats(used) > before, 'it was asked')
      }
      await served(machines, fault, 0, unharmed)
    })
  })
}

/** Whether the slow model is answering there. */
function isAnswering(node: SimulatedNode): boolean {
  return node.requests.some(({ body, endedAt, abortedAt }) => {
    return (body as { model?: string } | undefined)?.model === slow && endedAt === null && abortedAt === null
  })
}

async function answers200({ adminUrl }: InstanceProcess, path: string): Promise<boolean> {
  return (
    (await fetch(`${adminUrl}/${path}`, { signal: AbortSignal.timeout(1000) }).catch(() => null))?.ok ?? false
  )
}

async function readyText({ instance }: Machine): Promise<string> {
  return await (await fetch(`${instance.adminUrl}/readyz`)).text()
}
