import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { askOnce } from '../support/load.ts'
import { freePort, InstanceProcess, spawnLlamero, until } from '../support/processes.ts'
import { starvedMs } from '../support/starvation.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'

suite('an instance that starts', () => {
  let etcd: Etcd
  let node: SimulatedNode
  let state: string
  const started: InstanceProcess[] = []
  const silents: FaultProxy[] = []
  const aSilentEndpoint = () => {
    const proxy = new FaultProxy(etcd.endpoint)
    proxy.set({ accept: 'silent' })
    silents.push(proxy)
    return proxy
  }
  const start = async (name: string, settings: Record<string, string>) => {
    const instance = await InstanceProcess.start(name, settings)
    started.push(instance)
    return instance
  }
  before(async () => {
    etcd = await startEtcd()
    state = await mkdtemp(join(tmpdir(), 'llamero-cold-'))
    node = await SimulatedNode.start({ name: 'n', models })
    await etcdctl(etcd.endpoint, 'put', `${root}nodes/n`, `url: ${node.url}`)
  })
  after(async () => {
    await Promise.all(started.map((instance) => instance.stop()))
    await Promise.all(silents.map((proxy) => proxy.close()))
    await node.stop()
    await etcd.stop()
    await rm(state, { recursive: true, force: true })
  })

  test('with an endpoint first that accepts and stays silent is ready within 3 s, through the next', async (test) => {
    const silent = aSilentEndpoint()
    const endpoints = `${await silent.open()},${etcd.endpoint}`
    const since = performance.now()
    const instance = await start('a', { LLAMERO_ETCD: endpoints })
    const tookMs = performance.now() - since - starvedMs(instance.pid)
    assert.ok(silent.accepted > 0)
    test.diagnostic(`ready after ${Math.round(tookMs)} ms`)
    assert.ok(tookMs <= 3000, `${tookMs} ms`)
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it serves', 3000)
  })

  test('with no other endpoint than one that stays silent follows within 5 s of its healing', async (test) => {
    const silent = aSilentEndpoint()
    const starting = start('b', { LLAMERO_ETCD: await silent.open(), LLAMERO_STATE: state })
    await until(() => silent.accepted >= 3, 'it tries', 10_000)
    silent.heal()
    const since = performance.now()
    const instance = await starting
    test.diagnostic(`ready after ${Math.round(performance.now() - since)} ms`)
    assert.ok(performance.now() - since <= 5000)
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it serves', 3000)
  })

  test('under a name that is in use is not ready, names the other one, and leaves it registered and leading (311)', async () => {
    const record = async () => etcdctl(etcd.endpoint, 'get', '--print-value-only', `${root}instances/a`)
    const { boot, host, data } = JSON.parse(await record())
    const [listen, admin] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
    const second = spawnLlamero(['serve', '--name', 'a', '--listen', listen, '--admin', admin], {
      LLAMERO_ETCD: etcd.endpoint,
      LLAMERO_STATE: join(state, 'second'),
    })
    let log = ''
    second.stdout.on('data', (chunk) => (log += chunk))
    try {
      const ready = async () => fetch(`http://${admin}/readyz`)
      await until(
        async () => (await ready()).status === 503 && log.includes('duplicate'),
        'it says so',
        10_000,
      )
      const [line = '{}'] = log.split('\n').filter((each) => each.includes('duplicate instance name'))
      const { level, holder } = JSON.parse(line)
      assert.equal(level, 'warn')
      for (const told of [holder, await (await ready()).text()])
        for (const part of [host, data]) assert.ok(told.includes(part), `${told} names ${part}`)
      assert.equal(await askOnce(`http://${listen}`, 'm:1b'), null, 'it serves whoever asks it')
      assert.equal(JSON.parse(await record()).boot, boot)
      assert.equal((await fetch(`http://${admin}/leader`)).status, 503)
    } finally {
      second.kill('SIGKILL')
    }
  })

  suite('without an etcd', () => {
    let file: string
    before(async () => {
      const instance = started.find(({ name }) => name === 'b')
      // Two changes, each in a snapshot of its own.
      for (const slots of [1, 2]) {
        await etcdctl(etcd.endpoint, 'put', `${root}nodes/n`, `{url: "${node.url}", slots: ${slots}}`)
        await new Promise((resolve) => setTimeout(resolve, 1500))
      }
      instance?.signal('SIGKILL')
      await instance?.exited()
      file = join(state, (await readdir(state)).find((name) => /^snapshot-.*\.json$/.test(name)) ?? '')
    })
    const settings = async () => ({
      LLAMERO_ETCD: `http://127.0.0.1:${await freePort()}`,
      LLAMERO_STATE: state,
    })

    test('serves within 3 s from the snapshot before, when the last one is damaged', async (test) => {
      await writeFile(file, '{"objects": [{"key": "/llamero/default/no')
      const since = performance.now()
      const instance = await start('b', await settings())
      assert.equal(await askOnce(instance.url, 'm:1b'), null)
      const tookMs = performance.now() - since - starvedMs(instance.pid)
      test.diagnostic(`served after ${Math.round(tookMs)} ms`)
      assert.ok(tookMs <= 3000, `${tookMs} ms`)
      assert.match(instance.log, /the snapshot on disk is damaged/)
      instance.signal('SIGKILL')
      await instance.exited()
    })

    test('and without a whole snapshot stays, is not ready, and says what is missing to whoever asks', async () => {
      await writeFile(file, 'junk')
      await writeFile(`${file}.prev`, '')
      const [data, admin] = [await freePort(), await freePort()]
      const child = spawnLlamero(['serve'], {
        ...(await settings()),
        LLAMERO_NAME: 'b',
        LLAMERO_LISTEN: `127.0.0.1:${data}`,
        LLAMERO_ADMIN: `127.0.0.1:${admin}`,
      })
      try {
        const ask = (path: string) => fetch(`http://127.0.0.1:${admin}${path}`)
        await until(async () => (await ask('/livez')).ok, 'it lives', 5000)
        await new Promise((resolve) => setTimeout(resolve, 2000))
        const readiness = await ask('/readyz')
        assert.equal(readiness.status, 503)
        assert.match(await readiness.text(), /no configuration yet/)
        assert.match((await askOnce(`http://127.0.0.1:${data}`, 'm:1b')) ?? '', /^503 .*no configuration yet/)
        assert.equal(child.exitCode, null)
      } finally {
        child.kill('SIGKILL')
      }
    })
  })
})
