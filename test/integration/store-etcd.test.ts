import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttp2Server } from 'node:http2'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { eventually, rejects, storeContract } from '../suites/store-contract.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'

const clock = new RealClock()

function connect(endpoints: string[], metrics?: Metrics): EtcdStore {
  return new EtcdStore({ endpoints, clock, log: silentLog, ...(metrics && { metrics }) })
}

let shared: Etcd
before(async () => {
  shared = await startEtcd()
})
after(() => shared.stop())

storeContract('the etcd store', async () => {
  const store = connect([shared.endpoint])
  return { store, close: () => store.close() }
})

describe('the etcd store with no member that answers', () => {
  it('asks reachable members twice before it asks the unreachable one again', async () => {
    const asked: string[] = []
    const sessions: { destroy(): void }[] = []
    // It takes the connection, as the kernel does for a process that is frozen, and says nothing.
    const frozen = createServer((socket) => {
      asked.push('frozen')
      sessions.push(socket)
      socket.on('error', () => {})
    })
    // Members without a leader: they say hello, and answer no write.
    const waiting = ['one', 'two'].map((name) =>
      createHttp2Server().on('session', (session) => {
        asked.push(name)
        sessions.push(session)
        session.on('error', () => {})
      }),
    )
    const servers = [frozen, ...waiting]
    const endpoints = await Promise.all(
      servers.map(async (server) => {
        await once(server.listen(0, '127.0.0.1'), 'listening')
        return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      }),
    )
    const store = connect(endpoints)
    try {
      // Once deadlines have grown, a connection that came up during a call is kept for one more.
      for (let n = 0; n < 8; n++) await rejects(store.get('/a'), 'unavailable')
      assert.deepEqual(asked, ['frozen', 'one', 'two', 'one', 'two', 'frozen'])
    } finally {
      await store.close()
      for (const session of sessions) session.destroy()
      for (const server of servers) server.close()
    }
  })
})

describe('the etcd store beside other clients', () => {
  it('sees writes of etcdctl, and learns that a revision is compacted', async () => {
    const store = connect([shared.endpoint])
    await etcdctl(shared.endpoint, 'put', '/by-hand/a', 'one')
    await etcdctl(shared.endpoint, 'put', '/by-hand/a', 'two')
    const { entries, revision } = await store.list('/by-hand/')
    assert.equal(entries[0]?.value, 'two')
    await etcdctl(shared.endpoint, 'compaction', String(revision))
    const broken: string[] = []
    await store.watch('/by-hand/', revision - 1n, {
      changed: () => assert.fail('changes of a revision that is gone'),
      broken: (reason) => broken.push(reason),
    })
    await eventually('compacted', () => broken.length > 0)
    assert.deepEqual(broken, ['compacted'])
    await store.close()
  })

  it('breaks a watch from a revision that etcd has not reached: its history is another one', async () => {
    const store = connect([shared.endpoint])
    const { revision } = await store.list('/future/')
    const broken: string[] = []
    await store.watch('/future/', revision + 100n, {
      changed() {},
      broken: (reason) => broken.push(reason),
    })
    await eventually('lost', () => broken.length > 0)
    assert.deepEqual(broken, ['lost'])
    await store.close()
  })

  it('goes to the next endpoint when one is dead, and stays there', async () => {
    const metrics = new Metrics()
    const store = connect(['http://127.0.0.1:1', shared.endpoint], metrics)
    await rejects(store.get('/a'), 'unavailable')
    assert.equal((await metrics.storeUp.get()).values[0]?.value, 0)
    for (let call = 0; call < 5; call++) await store.get('/a')
    assert.equal((await metrics.storeUp.get()).values[0]?.value, 1)
    const timed = (await metrics.storeSeconds.get()).values
    assert.equal(timed.find((value) => value.metricName?.endsWith('_count'))?.value, 6)
    await store.close()
  })
})

describe('the etcd store and its connection', () => {
  it('is one for calls, leases and watches, and a new one once it broke', async () => {
    const road = new FaultProxy(shared.endpoint)
    const store = connect([await road.open()])
    const broken: string[] = []
    const use = async () => {
      const { revision } = await store.list('/one/')
      await store.watch('/one/', revision + 1n, { changed() {}, broken: (reason) => broken.push(reason) })
      await store.renew((await store.grant(5000)).id)
    }
    await use()
    assert.equal(road.accepted, 1)
    road.drop()
    await eventually('the watch to break', () => broken.length > 0)
    await use()
    assert.equal(road.accepted, 2)
    await store.close()
    await road.close()
  })

  it('passes by the proxies that the environment names for HTTP and gRPC (336)', async () => {
    let asked = 0
    const proxy = createServer((socket) => {
      asked++
      socket.destroy()
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const names = ['http_proxy', 'https_proxy', 'grpc_proxy']
    for (const name of names) process.env[name] = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    const store = connect([shared.endpoint])
    try {
      await store.get('/a')
      assert.ok((await store.members()).every(({ ok }) => ok))
      assert.equal(asked, 0)
    } finally {
      for (const name of names) delete process.env[name]
      await store.close()
      proxy.close()
    }
  })

  it('outlives a refusal that etcd3 takes for a failure of the host', async () => {
    const road = new FaultProxy(shared.endpoint)
    const store = connect([await road.open()])
    const lease = (await store.grant(5000)).id
    // Within our limit, and with its key and envelope beyond etcd's.
    const value = 'x'.repeat(1_499_000)
    const put = (n: number) => ({
      type: 'put' as const,
      key: `/large/${n}`,
      value: n === 0 ? value : '',
      lease,
    })
    const big = store.commit({ when: [], apply: Array.from({ length: 128 }, (_, n) => put(n)) })
    await big.catch(() => {})
    await store.get('/large/0')
    await store.close()
    await road.close()
  })
})

describe('the etcd store behind an endpoint that accepts and never answers', () => {
  let road: FaultProxy
  let muted: string
  before(async () => {
    road = new FaultProxy(shared.endpoint)
    muted = await road.open()
  })
  beforeEach(() => road.set({ accept: 'silent' }))
  after(() => road.close())

  it('goes on with the next endpoint', async () => {
    const store = connect([muted, shared.endpoint])
    await rejects(store.get('/a'), 'unavailable')
    await store.get('/a')
    await store.close()
  })

  it('works as soon as the only endpoint is back, calls and watches', async () => {
    const store = connect([muted])
    const handler = { changed() {}, broken() {} }
    for (let attempt = 0; attempt < 2; attempt++) {
      const calls = [store.get('/a'), store.watch('/a/', 1n, handler)]
      for (const call of calls) await rejects(call, 'unavailable')
    }
    road.heal()
    const { revision } = await store.list('/a/')
    await store.watch('/a/', revision + 1n, handler)
    await store.close()
  })
})

describe('a process with the etcd store', () => {
  it('exits by itself once the store is closed', async () => {
    const code = `
      import { RealClock } from './lib/shared/clock.ts'
      import { silentLog } from './lib/shared/log.ts'
      import { EtcdStore } from './lib/store/etcd/etcd-store.ts'
      const endpoints = [${JSON.stringify(shared.endpoint)}]
      const store = new EtcdStore({ endpoints, clock: new RealClock(), log: silentLog })
      const { revision } = await store.list('/exit/')
      await store.watch('/exit/', revision + 1n, { changed() {}, broken() {} })
      const { id } = await store.grant(5000)
      await store.renew(id)
      await store.close()`
    const cwd = join(import.meta.dirname, '..', '..')
    const child = spawn(process.execPath, ['--input-type=module', '--eval', code], { cwd, stdio: 'inherit' })
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    const [exitCode, signal] = await once(child, 'exit')
    clearTimeout(timer)
    assert.deepEqual([exitCode, signal], [0, null])
  })
})

describe('the etcd store while etcd is away', () => {
  let etcd: Etcd
  let store: EtcdStore
  const put = (key: string) => store.commit({ when: [], apply: [{ type: 'put', key, value: '' }] })

  before(async () => {
    etcd = await startEtcd()
  })
  after(() => etcd.stop())
  beforeEach(() => {
    store = connect([etcd.endpoint])
  })

  const everyCall = () => [
    store.get('/away/a'),
    store.list('/away/'),
    store.newest('/away/'),
    put('/away/a'),
    store.grant(5000),
    store.renew('1234567'),
    store.revoke('1234567'),
    store.watch('/away/', 1n, { changed() {}, broken() {} }),
  ]

  it('says unavailable at once when it is dead, and works again when it is back', async () => {
    await put('/away/a')
    const { revision } = await store.list('/away/')
    const broken: string[] = []
    await store.watch('/away/', revision + 1n, { changed() {}, broken: (reason) => broken.push(reason) })
    await etcd.kill('SIGKILL')
    await eventually('the watch to break', () => broken.length > 0)
    assert.deepEqual(broken, ['lost'])
    for (const call of everyCall()) await rejects(call, 'unavailable')
    await etcd.restart()
    const { revision: after } = await put('/away/b')
    assert.ok(after > revision)
    const seen: bigint[] = []
    const watch = await store.watch('/away/', after, {
      changed: (_, at) => seen.push(at),
      broken: (reason, error) => assert.fail(`${reason} ${error?.message}`),
    })
    await eventually('the change', () => seen.length > 0)
    watch.close()
    await store.close()
  })

  it('says unavailable within the deadline when it hangs, and works again when it goes on', async () => {
    await put('/away/a')
    await etcd.kill('SIGSTOP')
    const startedMs = performance.now()
    await Promise.all(everyCall().map((call) => rejects(call, 'unavailable')))
    const tookMs = performance.now() - startedMs
    assert.ok(tookMs < 2000, `took ${Math.round(tookMs)} ms`)
    for (let call = 0; call < 2; call++) await rejects(store.get('/away/a'), 'unavailable')
    await etcd.kill('SIGCONT')
    await put('/away/a')
    await store.close()
  })

  it('ends a watch when its connection dies silently', async () => {
    const { revision } = await store.list('/away/')
    const broken: string[] = []
    await store.watch('/away/', revision + 1n, { changed() {}, broken: (reason) => broken.push(reason) })
    await etcd.kill('SIGSTOP')
    await eventually('the watch to break', () => broken.length > 0, 9000)
    assert.deepEqual(broken, ['lost'])
    await etcd.kill('SIGCONT')
    await store.close()
  })
})
