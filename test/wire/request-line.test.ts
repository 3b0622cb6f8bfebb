import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { rawAnswer } from '../support/wire.ts'
import {
  chat,
  get,
  loopDelayDuring,
  post,
  refuses,
  startWireGateway,
  statuses,
  type WireCase,
} from '../support/wire-gateway.ts'

const line = (text: string) => Buffer.from(`${text}\r\nHost: x\r\n\r\n`, 'latin1')

const refused: readonly WireCase[] = [
  { name: 'HTTP/0.9 (1)', bytes: 'GET /\r\n\r\n', answer: /505 / },
  { name: 'an invented version, HTTP/2.0 (2)', bytes: line('GET /api/tags HTTP/2.0'), answer: /505 / },
  { name: 'an invented version, HTTP/1.2 (3)', bytes: line('GET /api/tags HTTP/1.2'), answer: /400 |505 / },
  { name: 'an invented version, HTTP/1.10 (3)', bytes: line('GET /api/tags HTTP/1.10'), answer: /400 |505 / },
  { name: 'an invented version, HTTP/3.0 (3)', bytes: line('GET /api/tags HTTP/3.0'), answer: /400 |505 / },
  {
    name: 'Transfer-Encoding in HTTP/1.0 (6)',
    bytes: 'POST /api/chat HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    answer: /400 /,
  },
  { name: 'the preface of HTTP/2 (7)', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', answer: /400 / },
  { name: 'an unknown method (9)', bytes: line('FOO / HTTP/1.1'), answer: /400 / },
  { name: 'a method in lower case (9)', bytes: line('get / HTTP/1.1'), answer: /400 / },
  {
    name: 'TRACE, whose headers it does not echo (10)',
    bytes: 'TRACE / HTTP/1.1\r\nHost: x\r\nX-Echo: secret\r\n\r\n',
    answer: /^HTTP\/1.1 405 (?![\s\S]*secret)/,
  },
  { name: 'CONNECT, without a word (11)', bytes: line('CONNECT a:443 HTTP/1.1'), answer: /^$/ },
  { name: 'OPTIONS * (12)', bytes: line('OPTIONS * HTTP/1.1'), answer: /405 / },
  {
    name: 'the wrong method, naming the right one (13)',
    bytes: get('/api/chat'),
    answer: /405 [\s\S]*allow: POST\r\n/i,
  },
  { name: 'a target of more than 8 KiB (15)', bytes: get(`/${'a'.repeat(9000)}`), answer: /414 / },
  {
    name: 'a head of more than 16 KiB (15)',
    bytes: get('/', `Host: x\r\nA: ${'a'.repeat(20_000)}\r\n`),
    answer: /431 /,
  },
  { name: 'a control byte in the target (16)', bytes: line('GET /api\u0001 HTTP/1.1'), answer: /400 / },
  { name: 'a blank in the target (16)', bytes: line('GET /api tags HTTP/1.1'), answer: /400 / },
  { name: 'raw UTF-8 in the target (16)', bytes: Buffer.from(get('/api/tägs')), answer: /40[04] / },
]

suite('of request lines, refused are', () => refuses(refused))

suite('a request line', () => {
  test('of HTTP/1.0 needs no Host, and its connection closes (4)', async () => {
    await using wire = await startWireGateway()
    const answer = await wire.send('GET /api/version HTTP/1.0\r\n\r\n')
    assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*connection: close\r\n/i)
    await wire.assertWell()
  })

  test('of HTTP/1.0 gets a stream until the connection closes, without chunk framing (5)', async () => {
    const lines = '{"message":{"content":"one"},"done":false}\n{"done":true}\n'
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n${lines.length.toString(16)}\r\n${lines}\r\n0\r\n\r\n`,
        ),
    })
    const answer = await wire.send(post('/api/chat', '{"model":"m"}').replace('HTTP/1.1', 'HTTP/1.0'))
    assert.match(answer, /^HTTP\/1.1 200 OK/)
    assert(!/transfer-encoding/i.test(answer))
    assert.equal(answer.split('\r\n\r\n')[1], lines)
    await wire.assertWell()
  })

  test('is not a TLS handshake, which ends at once (8)', async () => {
    await using wire = await startWireGateway()
    const { promise: code, resolve } = Promise.withResolvers<unknown>()
    connectTls({ port: wire.gateway.port, host: '127.0.0.1' }).on('error', (error) => resolve(error))
    assert.match(String(await code), /wrong version number|packet length|ECONNRESET|socket hang up/i)
    assert.deepEqual(wire.node.received, [])
    await wire.assertWell()
  })

  test('HEAD gets the head alone, and the connection stays in step (14)', async () => {
    await using wire = await startWireGateway()
    const answer = await wire.send(`HEAD /api/tags HTTP/1.1\r\nHost: x\r\n\r\n${get('/nothing')}`)
    assert.match(answer, /^HTTP\/1.1 200 OK\r\n(?:[^\r]+\r\n)+\r\nHTTP\/1.1 404 Not Found\r\n/)
    await wire.assertWell()
  })

  for (const [count, what] of [
    [1, 'an empty line'],
    [100, 'a hundred empty lines'],
  ] as const) {
    test(`may follow ${what} (17)`, async () => {
      await using wire = await startWireGateway()
      assert.match(
        await wire.send('\r\n'.repeat(count) + get('/api/version'), /version"/),
        /^HTTP\/1.1 200 OK/,
      )
      await wire.assertWell()
    })
  }

  test('after a megabyte of empty lines is served, at no cost to others (17)', async () => {
    await using wire = await startWireGateway()
    const delay = await loopDelayDuring(async () => {
      const answer = await wire.send('\r\n'.repeat(524_288) + get('/api/version'), /version"/)
      assert.match(answer, /^HTTP\/1.1 200 OK/)
    })
    assert(delay < 50, `the loop was blocked for ${delay} ms`)
    await wire.assertWell()
  })
})

suite('pipelined requests', () => {
  test('are answered in order, each with its own key (18)', async () => {
    const token = 'llm_valid'
    const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken(token) })]])
    await using wire = await startWireGateway({
      keys,
      loopback: false,
      serve: (socket) => socket.write(rawAnswer('{"done":true}')),
    })
    const key = `Host: x\r\nAuthorization: Bearer ${token}\r\n`
    const answers = await wire.send(
      post('/api/chat', chat, `Authorization: Bearer ${token}\r\n`) +
        get('/api/version') +
        get('/api/version', key) +
        get('/nothing', key),
    )
    assert.deepEqual(statuses(answers), ['200', '403', '200', '404'])
    assert.equal(wire.node.received.length, 1)
    await wire.assertWell()
  })

  test('in tens of thousands are answered in order until the connection closes (19)', async () => {
    await using wire = await startWireGateway()
    const count = 10_000
    const id = (n: number) => `pipelined-${String(n).padStart(5, '0')}`
    const requests = Array.from({ length: count }, (_, n) =>
      get(
        '/api/version',
        `Host: x\r\nX-Request-Id: ${id(n)}\r\n${n === count - 1 ? 'Connection: close\r\n' : ''}`,
      ),
    )
    const answers = await wire.send(requests.join(''))
    const seen = [...answers.matchAll(/x-request-id: (pipelined-\d+)/g)].map(([, name]) => name)
    assert(seen.length > 0)
    assert.deepEqual(
      seen,
      Array.from({ length: seen.length }, (_, n) => id(n)),
    )
    assert.deepEqual(
      statuses(answers).slice(0, seen.length),
      seen.map(() => '200'),
    )
    await wire.assertWell()
  })
})
