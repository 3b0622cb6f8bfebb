import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import type { AdminContext } from '../../lib/admin/admin-context.ts'
import { AdminServer } from '../../lib/admin/server.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { type Instance, startInstance } from '../support/instance.ts'
import { exchangeBytes } from '../support/wire.ts'

const head = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n'

/** The listener alone, with limits that a test can wait for. */
async function aListener(limits: ConstructorParameters<typeof AdminServer>[1]) {
  const metrics = new Metrics()
  const listen = { host: '127.0.0.1', port: 0 }
  const clock = new RealClock()
  const snapshot = new CurrentSnapshot()
  const around = { log: silentLog, metrics, clock, snapshot, store: {} }
  const context = { listen, token: 'x', ...around } as unknown as AdminContext
  const server = new AdminServer(context, { connectionsCheckingInterval: 20, ...limits })
  const { port } = await server.listen()
  return { port, metrics, [Symbol.asyncDispose]: () => server.close() }
}

suite('the admin listener', () => {
  test('times out when headers do not come (347)', async () => {
    await using listener = await aListener({ headersTimeout: 100 })
    assert.match(await exchangeBytes(listener.port, head), /^HTTP\/1.1 408 /)
  })

  test('times out when a body does not come (347)', async () => {
    await using listener = await aListener({ headersTimeout: 100, requestTimeout: 200 })
    const bytes =
      'PUT /admin/v1/nodes/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nAuthorization: Bearer x\r\n'
    const answer = await exchangeBytes(listener.port, `${bytes}Content-Type: application/json\r\n\r\n{`)
    assert.match(answer, /^HTTP\/1.1 408 /)
  })

  test('limits its connections, and counts those it refuses (347)', async () => {
    await using listener = await aListener({ maxConnections: 2 })
    const open = [0, 1].map(() => connect(listener.port, '127.0.0.1'))
    await Promise.all(open.map((socket) => once(socket, 'connect')))
    assert.equal(await exchangeBytes(listener.port, `${head}\r\n`), '')
    const { values } = await listener.metrics.connectionsRefused.get()
    assert.deepEqual(
      values.map(({ labels, value }) => [labels.limit, value]),
      [['admin', 1]],
    )
    for (const socket of open) socket.destroy()
  })

  test('closes a connection after its limit of requests (347)', async () => {
    await using listener = await aListener({ maxRequestsPerSocket: 3 })
    const answer = await exchangeBytes(listener.port, `${head}\r\n`.repeat(3))
    assert.equal(answer.match(/HTTP\/1.1 200 OK/g)?.length, 3)
    assert.match(answer, /Connection: close/i)
  })

  for (const [name, bytes, status] of [
    ['headers above 16 KiB', `${head}X: ${'x'.repeat(17_000)}\r\n\r\n`, 431],
    ['a request without a Host', 'GET /livez HTTP/1.1\r\n\r\n', 400],
    [
      'two ways to frame a body',
      `${head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['what is no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', 400],
    ['a second Host', `${head}Host: evil.example\r\n\r\n`, 400],
    ['a second key', `${head}X-Api-Key: a\r\nX-Api-Key: b\r\n\r\n`, 400],
    ['brackets around a name', 'GET /livez HTTP/1.1\r\nHost: [localhost]\r\n\r\n', 400],
    ['a host that is none', 'GET /livez HTTP/1.1\r\nHost: *.localhost\r\n\r\n', 400],
    ['an empty host', 'GET /livez HTTP/1.1\r\nHost:\r\n\r\n', 400],
  ] as const)
    test(`refuses ${name} with ${status} (347)`, async () => {
      await using listener = await aListener({})
      assert.match(await exchangeBytes(listener.port, bytes), new RegExp(`^HTTP/1.1 ${status} `))
    })

  test('is no tunnel (347)', async () => {
    await using listener = await aListener({})
    assert.equal(await exchangeBytes(listener.port, 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n'), '')
  })
})

suite('a body for the admin API', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 0 })
  })
  after(() => instance[Symbol.asyncDispose]())

  async function put(body: Buffer | string, headers: Record<string, string> = {}) {
    const response = await fetch(`${instance.adminUrl}/admin/v1/nodes/n`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json', ...headers },
      body,
    })
    const text = await response.text()
    return { status: response.status, error: text === '' ? null : JSON.parse(text).error }
  }
  const document = '{"url":"http://127.0.0.1:9"}'
  const encoded = (encoding: string, body: Buffer | string) => put(body, { 'content-encoding': encoding })

  test('may be compressed (347)', async () => {
    for (const [encoding, body] of [
      ['gzip', gzipSync(document)],
      ['deflate', deflateSync(document)],
      ['br', brotliCompressSync(document)],
      ['identity', document],
    ] as const)
      assert.ok([200, 201].includes((await encoded(encoding, body)).status), encoding)
  })

  const whole = gzipSync(document)
  for (const [name, encoding, body] of [
    ['no gzip', 'gzip', document],
    ['cut off gzip', 'gzip', whole.subarray(0, -9)],
    ['gzip with a wrong checksum', 'gzip', Buffer.concat([whole.subarray(0, -8), Buffer.alloc(8)])],
    ['nothing where gzip is announced', 'gzip', ''],
    ['no deflate', 'deflate', document],
    ['raw deflate', 'deflate', deflateRawSync(document)],
    ['no brotli', 'br', document],
    ['cut off brotli', 'br', brotliCompressSync(document.repeat(9)).subarray(0, -3)],
  ] as const)
    test(`is refused with 400 where it is ${name} (347)`, async () => {
      const { status, error } = await encoded(encoding, body)
      assert.equal(status, 400, JSON.stringify(error))
      assert.equal(error.code, 'bad_request')
    })

  test('in an unknown encoding is refused with 415 and what to do (347)', async () => {
    for (const encoding of ['compress', 'zstd', 'gzip, gzip', 'x'.repeat(500)]) {
      const { status, error } = await encoded(encoding, document)
      assert.equal(status, 415, encoding)
      assert.match(error.message, /send it uncompressed/)
      assert.ok(error.message.length < 300)
    }
  })

  test('is refused with 413 when larger than 256 KiB, compressed or not (347)', async () => {
    const large = JSON.stringify({ text: 'x'.repeat(300_000) })
    const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024, 0x20))
    assert.ok(bomb.length < 256 * 1024)
    for (const { status, error } of [
      await put(large),
      await encoded('gzip', gzipSync(large)),
      await encoded('gzip', bomb),
    ]) {
      assert.equal(status, 413)
      assert.match(error.message, /larger than 262144 bytes/)
    }
  })

  test('that was refused does not block the next request of its connection (347)', async () => {
    const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024, 0x20))
    const headers = `Host: localhost\r\nAuthorization: Bearer ${instance.token}\r\nContent-Type: application/json\r\n`
    const first = `PUT /admin/v1/nodes/n HTTP/1.1\r\n${headers}Content-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n`
    const next = 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    const bytes = Buffer.concat([Buffer.from(first), bomb, Buffer.from(next)])
    const answer = await exchangeBytes(instance.app.admin.port, bytes)
    assert.match(answer, /^HTTP\/1.1 413 [\s\S]*HTTP\/1.1 200 OK/)
  })

  test('that is nested too deeply is refused with 400 (347)', async () => {
    for (const body of [
      `{"labels":${'{"a":'.repeat(40_000)}1${'}'.repeat(40_000)}}`,
      `{"labels":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    ]) {
      const { status, error } = await put(body)
      assert.deepEqual([status, error.message], [400, 'the body is nested deeper than 32 levels'])
    }
  })

  test('that is no JSON is refused with 400 (347)', async () => {
    assert.equal((await put('{')).status, 400)
    assert.equal((await put('"text"')).status, 400)
  })
})
