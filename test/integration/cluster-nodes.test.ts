import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from '../../lib/cluster/cluster.ts'
import type { NodeStatus } from '../../lib/fleet/node.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { EmbeddedStore } from '../../lib/store/embedded/embedded-store.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'

const keys = new KeyLayout('test')
const clock = new RealClock()
const tiny = aModel({ name: 'tiny:1b', loadMs: 0, decodeTps: 0, promptTps: 0 })

/** What one test made, in the order of making. */
let cleanups: (() => Promise<unknown>)[]
let store: EmbeddedStore
let snapshot: CurrentSnapshot
let cluster: Cluster

beforeEach(async () => {
  cleanups = []
  const dir = await mkdtemp(join(tmpdir(), 'llamero-cluster-'))
  cleanups.push(() => rm(dir, { recursive: true }))
  store = await EmbeddedStore.open(join(dir, 'store'), { clock, log: silentLog })
  cleanups.push(() => store.close())
  snapshot = new CurrentSnapshot()
  cluster = new Cluster({
    store,
    keys,
    snapshot,
    clock,
    random: () => 0.5,
    log: silentLog,
    metrics: new Metrics(),
    instance: { name: 'a', boot: 'b', version: '0', data: '', admin: '', started: new Date() },
    load: () => ({ running: {}, queued: 0 }),
  })
  cluster.start()
  cleanups.push(() => cluster.stop())
})

afterEach(async () => {
  for (const clean of cleanups.reverse()) await clean()
})

const put = (key: string, value: unknown) =>
  store.commit({ when: [], apply: [{ type: 'put', key, value: JSON.stringify(value) }] })

const quickProbes = () => put(keys.config, { probes: { interval: '200ms', timeout: '100ms' } })

async function aNode(name = 'n') {
  const node = await SimulatedNode.start({ name, models: [tiny] })
  cleanups.push(() => node.stop())
  return node
}

/** A server that is no Ollama, or a strange one. */
async function aServer(listener: RequestListener, server: Server = createServer()): Promise<string> {
  server.on('request', listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const scheme = 'setSecureContext' in server ? 'https' : 'http'
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Of a server on 127.0.0.1, signed by itself; it certifies nothing but these tests. */
const cert = `-----BEGIN CERTIFICATE-----
MIIBkTCCATagAwIBAgIUAIXyoBdIx+7/i6B4exWWqSZkR/4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJc2ltdWxhdGVkMCAXDTI2MTEyMzAwMjkzNFoYDzIxMjYxMDMw
MDAyOTM0WjAUMRIwEAYDVQQDDAlzaW11bGF0ZWQwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASzxX4Y5CSygXXpU18TUUSG0QdYOjVh1rwBbuEdx+r0t0GlqBy2p/Pp
OFg1reYpVnzcHiEvsOkRUe1ne8J4FsjQo2QwYjAdBgNVHQ4EFgQUA29TIJS/3Yof
7Jgxd5Pjis+OG60wHwYDVR0jBBgwFoAUA29TIJS/3Yof7Jgxd5Pjis+OG60wDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC
IQCEfjRL5QE057LX1XUkASrgVL6cPerJMtSehyq27Bi10QIhALevxsZs3rve03lU
Rt6YycIAnIMPMBWf+G3SmyLttFt1
-----END CERTIFICATE-----`
const key = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIE4soyD55wCPuTGcgf/jjv6euBPUCMjbl68uvt00ibI4oAoGCCqGSM49
AwEHoUQDQgAEs8V+GOQksoF16VNfE1FEhtEHWDo1Yda8AW7hHcfq9LdBpagctqfz
6ThYNa3mKVZ83B4hL7DpEVHtZ3vCeBbI0A==
-----END EC PRIVATE KEY-----`

const ollama: Readonly<Record<string, unknown>> = {
  '/api/version': { version: '0.12.6' },
  '/api/tags': { models: [] },
  '/api/ps': { models: [] },
}

/** Milliseconds until the node's status fits; fails with the last status when that takes longer than `withinMs`. */
async function until(fits: (status: NodeStatus) => boolean, withinMs: number, name = 'n'): Promise<number> {
  const startedAt = clock.now()
  for (;;) {
    const status = snapshot.get().nodes.get(name)?.status
    const tookMs = clock.now() - startedAt
    if (status && fits(status) && tookMs <= withinMs) return tookMs
    if (tookMs > withinMs) assert.fail(`after ${Math.round(tookMs)} ms: ${JSON.stringify(status)}`)
    await sleep(5)
  }
}

const isUp = ({ health }: NodeStatus) => health === 'up'
const isDown = ({ health }: NodeStatus) => health === 'down'

test('a node is up with its inventory within a second of being added, and what it loads appears', async () => {
  const node = await aNode()
  await quickProbes()
  await put(keys.node('n'), { url: node.url, weight: 3 })
  await until(isUp, 1000)
  const status = snapshot.get().nodes.get('n')?.status
  assert.deepEqual(
    { version: status?.version, weight: status?.weight, models: status?.models.map(({ name }) => name) },
    { version: '0.32.15', weight: 3, models: ['tiny:1b'] },
  )
  assert.equal(status?.models[0]?.digest, tiny.digest)
  assert.deepEqual(status?.loaded, [])
  await fetch(`${node.url}/api/generate`, { method: 'POST', body: JSON.stringify({ model: 'tiny:1b' }) })
  await until(({ loaded }) => loaded[0]?.name === 'tiny:1b' && loaded[0].size_vram > 0, 1000)
  assert.ok(snapshot.get().nodes.get('n')?.resident.has('tiny:1b'))
})

test('a node that dies is down within a second at the default interval, by two refusals', async () => {
  const node = await aNode()
  await put(keys.node('n'), { url: node.url })
  await until(isUp, 1000)
  await node.control.refuse()
  await until(isDown, 1000)
  const status = snapshot.get().nodes.get('n')?.status
  assert.equal(status?.reason, 'connection refused, confirmed by a second try')
  assert.deepEqual([status?.weight, status?.models.length, status?.loaded], [1, 1, []], 'the inventory stays')
  await quickProbes()
  await node.control.accept()
  await until(isUp, 3000)
  assert.equal(snapshot.get().nodes.get('n')?.status?.reason, '2 probes in a row answered')
})

test('a node that goes silent is slow after three probes, and takes requests further (302)', async () => {
  const node = await aNode()
  await put(keys.config, { probes: { interval: '500ms', timeout: '250ms' } })
  await put(keys.node('n'), { url: node.url })
  await until(isUp, 1000)
  node.control.blackhole()
  // Three timeouts and two pauses take 1.4 s after the next probe began. The patience of a slow node is ten timeouts.
  const tookMs = await until(({ health }) => health === 'slow', 4500)
  assert.ok(tookMs > 750, `${tookMs} ms are too few for three probes`)
  assert.equal(
    snapshot.get().nodes.get('n')?.status?.reason,
    '3 probes in a row timed out: no answer within 250 ms',
  )
  assert.ok(snapshot.get().nodes.get('n')?.available)
})

test('a node that is too slow for every probe is slow, and its models are known (302)', async () => {
  const node = await aNode()
  await quickProbes()
  for (const path of ['/api/version', '/api/tags', '/api/ps'])
    node.control.slowFirstByte(250, { match: { path } })
  await put(keys.node('n'), { url: node.url })
  await until(({ health, models }) => health === 'slow' && models.length === 1, 10_000)
  assert.ok(snapshot.get().models.has('tiny:1b'))
})

test('a node with a stalled /api/ps stays up, and keeps its list of loaded models', async () => {
  const node = await aNode()
  await quickProbes()
  await put(keys.node('n'), { url: node.url })
  await fetch(`${node.url}/api/generate`, { method: 'POST', body: JSON.stringify({ model: 'tiny:1b' }) })
  await until(({ loaded }) => loaded.length === 1, 1000)
  const before = snapshot.get().nodes.get('n')?.status
  node.control.blackhole({ match: { path: '/api/ps' } })
  await sleep(1500)
  assert.deepEqual(snapshot.get().nodes.get('n')?.status, before)
})

test('a requested probe comes at once, long before the next one, but not for every request (155)', async () => {
  await put(keys.config, { probes: { interval: '60s' } })
  const node = await aServer((request, response) => {
    looks += request.url === '/api/version' ? 1 : 0
    const models = isGone ? [] : [{ name: 'm:latest', digest: 'd', size: 1 }]
    response.end(JSON.stringify(request.url === '/api/tags' ? { models } : ollama[request.url ?? '']))
  })
  let looks = 0
  let isGone = false
  await put(keys.node('n'), { url: node })
  await until(({ health, models }) => health === 'up' && models.length === 1, 2000)
  isGone = true
  for (let n = 0; n < 5; n++) cluster.requestProbe('n')
  await until(({ models }) => models.length === 0, 1000)
  const before = looks
  cluster.requestProbe('n')
  await sleep(200)
  assert.equal(looks, before, 'once per interval')
})

test('a status is written when it changes, not with every probe', async () => {
  const node = await aNode()
  await quickProbes()
  await put(keys.node('n'), { url: node.url })
  await fetch(`${node.url}/api/generate`, { method: 'POST', body: JSON.stringify({ model: 'tiny:1b' }) })
  await until(({ loaded }) => loaded.length === 1, 1000)
  const written = (await store.get(keys.nodeState('n')))?.modified
  const probes = node.requests.length
  await sleep(1000)
  assert.ok(node.requests.length >= probes + 9, 'it was probed on')
  assert.equal((await store.get(keys.nodeState('n')))?.modified, written)
})

test('a node that is off or removed is not probed and has no state; a cordoned one is', async () => {
  const node = await aNode()
  await quickProbes()
  await put(keys.node('n'), { url: node.url, state: 'cordoned' })
  await until(isUp, 1000)
  assert.equal(snapshot.get().nodes.get('n')?.available, false)
  for (const take of [
    () => put(keys.node('n'), { url: node.url, state: 'off' }),
    () => store.commit({ when: [], apply: [{ type: 'delete', key: keys.node('n') }] }),
  ]) {
    await put(keys.node('n'), { url: node.url })
    await until(isUp, 1000)
    await take()
    await sleep(100)
    const probes = node.requests.length
    assert.equal(await store.get(keys.nodeState('n')), null)
    await sleep(500)
    assert.equal(node.requests.length, probes)
  }
})

test('a node that moves to another address starts as unknown', async () => {
  const [first, second] = [
    await aNode(),
    await SimulatedNode.start({ name: 'm', models: [], version: '0.40.0' }),
  ]
  cleanups.push(() => second.stop())
  await quickProbes()
  await put(keys.node('n'), { url: first.url })
  await until(({ version }) => version === '0.32.15', 1000)
  await put(keys.node('n'), { url: second.url })
  await until(({ version, models }) => version === '0.40.0' && models.length === 0, 1000)
  const probes = first.requests.length
  await sleep(500)
  assert.equal(first.requests.length, probes)
})

test('a server that is not Ollama is down, with the reason in words', async () => {
  await quickProbes()
  const answers: readonly [RequestListener, string][] = [
    [(_, response) => response.writeHead(500).end('x'.repeat(1e6)), 'answered 500 to GET /api/version'],
    [(_, response) => response.writeHead(302, { location: '/' }).end(), 'answered 302 to GET /api/version'],
    [(_, response) => response.end('<html>'), "its answer to GET /api/version is not Ollama's"],
    [
      ({ url }, response) => response.end(url === '/api/version' ? '{"version":"1"}' : '{"models":7}'),
      "its answer to GET /api/tags is not Ollama's",
    ],
    [(request) => request.socket.destroy(), 'connection closed by the node'],
    [(request) => void request.socket.end('SSH-2.0-OpenSSH_9.6\r\n'), 'it does not speak HTTP'],
  ]
  for (const [index, [listener, reason]] of answers.entries()) {
    const name = `bad-${index}`
    await put(keys.node(name), { url: await aServer(listener) })
    await until(isDown, 3000, name)
    assert.equal(snapshot.get().nodes.get(name)?.status?.reason, `3 probes in a row failed: ${reason}`)
  }
})

test('an answer larger than 16 MiB is cut off', async () => {
  let sent = 0
  const url = await aServer((_, response) => {
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(1 << 20, 32))) sent++
    }
    response.on('drain', more)
    more()
  })
  await put(keys.config, { probes: { interval: '10m', timeout: '10s', fall: 1 } })
  await sleep(50)
  await put(keys.node('n'), { url })
  await until(isDown, 8000)
  assert.match(
    snapshot.get().nodes.get('n')?.status?.reason ?? '',
    /answer to GET \/api\/\w+ is larger than \d+ bytes/,
  )
  assert.ok(sent < 80, `${sent} MiB were taken in`)
})

test('a probe carries the headers of the node and its own address as host', async () => {
  const seen: Record<string, unknown>[] = []
  const url = await aServer((request, response) => {
    seen.push(request.headers)
    response.end(JSON.stringify(ollama[request.url ?? '']))
  })
  await put(keys.node('n'), { url, headers: { Authorization: 'Bearer secret' } })
  await until(isUp, 1000)
  for (const headers of seen) {
    assert.equal(headers['authorization'], 'Bearer secret')
    assert.equal(headers['host'], new URL(url).host)
  }
})

test('a server that closes every connection is probed at most twice per interval', async () => {
  let asked = 0
  const url = await aServer((request, response) => {
    if (request.url === '/api/version') asked++
    response.on('finish', () => request.socket.destroy())
    response.end(JSON.stringify(ollama[request.url ?? '']))
  })
  await quickProbes()
  await put(keys.node('n'), { url })
  await until(isUp, 1000)
  asked = 0
  await sleep(1000)
  assert.ok(asked >= 3 && asked <= 11, `${asked} probes in five intervals`)
})

test('an https node is trusted by its own authority or on demand, and otherwise told to be untrusted', async () => {
  await quickProbes()
  const url = () =>
    aServer(
      (request, response) => response.end(JSON.stringify(ollama[request.url ?? ''])),
      createTlsServer({ key, cert }),
    )
  await put(keys.node('authority'), { url: await url(), tls: { ca: cert } })
  await put(keys.node('insecure'), { url: await url(), tls: { insecure: true } })
  await put(keys.node('unknown'), { url: await url() })
  await until(isUp, 1000, 'authority')
  await until(isUp, 1000, 'insecure')
  await until(({ reason }) => reason.endsWith('its certificate is not trusted'), 2000, 'unknown')
})
