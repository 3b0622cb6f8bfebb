import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, exchangeBytes, rawAnswer, startRawNode } from '../support/wire.ts'

const chat = '{"model":"m","messages":[]}'
const request = `POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${chat.length}\r\n\r\n${chat}`
const ndjson = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const line = (content: string) => `${JSON.stringify({ message: { content }, done: false })}\n`
const healthy = (socket: Socket) => socket.write(rawAnswer('{"healthy":true,"done":true}'))

/** Quick limits, so that a test waits milliseconds; the behaviour is that of the long ones. */
const timeouts = {
  connect: '300ms',
  first_token: '300ms',
  between_tokens: '300ms',
  idle_write: '300ms',
  request: '10s',
}

type Serve = (socket: Socket, chunk: string, nth: number) => void

/** The results of the attempts, counted. */
async function results({ metrics }: Awaited<ReturnType<typeof startGateway>>, node: string) {
  const series = (await metrics.attempts.get()).values.filter(({ labels }) => labels.node === node)
  return Object.fromEntries(series.map(({ labels, value }) => [labels.result, value]))
}

async function ask(
  serve: Serve,
  { withHealthy = false, slots = 8, weight = 1, timeouts: limits = timeouts } = {},
) {
  const bad = await startRawNode(serve)
  const good = await startRawNode(healthy)
  const nodes = [
    { name: 'bad', url: bad.url, loaded: ['m:latest'], slots, weight },
    ...(withHealthy ? [{ name: 'good', url: good.url, slots }] : []),
  ]
  const gateway = await startGateway(aSnapshot({ nodes, config: { timeouts: limits } }))
  return {
    bad,
    good,
    gateway,
    send: () => exchangeBytes(gateway.port, request, /done":true|\r\n0\r\n\r\n$/),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await bad[Symbol.asyncDispose]()
      await good[Symbol.asyncDispose]()
    },
  }
}

/**
 * Faults of a node before the first byte of its response. Alone it gives the status; beside a healthy node the caller
 * notices nothing.
 */
const beforeFirstByte: readonly [name: string, serve: Serve, status: number][] = [
  ['resets the connection (140)', (socket) => socket.resetAndDestroy(), 502],
  ['closes without a byte', (socket) => socket.end(), 502],
  ['accepts and never answers (138)', () => {}, 504],
  ['sends its head and dies (141)', (socket) => socket.write(ndjson, () => socket.resetAndDestroy()), 502],
  [
    'answers with status 099 (142)',
    (socket) => socket.write('HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n'),
    502,
  ],
  [
    'answers with status 999 (142)',
    (socket) => socket.write('HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n'),
    502,
  ],
  [
    'puts a control byte into its reason (142)',
    (socket) => socket.write('HTTP/1.1 200 a\u0001b\r\nContent-Length: 0\r\nX: \u0001\r\n\r\n'),
    502,
  ],
  ['speaks no HTTP (143)', (socket) => socket.write('hello\r\n\r\n'), 502],
  [
    'names two lengths (143)',
    (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na'),
    502,
  ],
  [
    'sends a head without end (148)',
    (socket) => socket.write(`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(40_000)}`),
    502,
  ],
  [
    'switches protocols unasked (42)',
    (socket) => socket.write('HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
    502,
  ],
  [
    'redirects (146)',
    (socket) =>
      socket.write('HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n'),
    502,
  ],
  [
    'is busy (112)',
    (socket) => socket.write(rawAnswer('{"error":"server busy"}', { status: '503 Service Unavailable' })),
    503,
  ],
  [
    'lost the model (151)',
    (socket) => socket.write(rawAnswer('{"error":"model \'m\' not found"}', { status: '404 Not Found' })),
    404,
  ],
  [
    'lost its runner',
    (socket) =>
      socket.write(
        rawAnswer('{"error":"llama-server process has terminated: x"}', {
          status: '500 Internal Server Error',
        }),
      ),
    500,
  ],
]

suite('a node that, before the first byte,', () => {
  for (const [name, serve, status] of beforeFirstByte) {
    test(`${name} fails alone with ${status}, and is healed by another`, async () => {
      await using alone = await ask(serve)
      assert.match(await alone.send(), new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*{"error":`))
      await using pair = await ask(serve, { withHealthy: true })
      assert.match(await pair.send(), /^HTTP\/1.1 200 OK[\s\S]*x-llamero-attempts: 2[\s\S]*"healthy":true/)
      assert.deepEqual(pair.gateway.scheduler.summary(), { running: {}, queued: 0 })
      const { node, failed } = pair.gateway.lines.find(({ message }) => message === 'request')?.fields ?? {}
      assert.equal(node, 'good')
      assert.match(String(failed), /^bad: [a-z0-9-]+: ./, 'the log names the node that failed, and how')
    })
  }

  test('refuses connections is asked once, and not again while its breaker is open', async () => {
    await using pair = await ask(healthy, { withHealthy: true })
    await pair.bad[Symbol.asyncDispose]()
    for (let n = 0; n < 5; n++) assert.match(await pair.send(), /"healthy":true/)
    const attempts = (await pair.gateway.metrics.attempts.get()).values
    assert.equal(attempts.find(({ labels }) => labels.result === 'unreachable')?.value, 1)
    assert.deepEqual(pair.gateway.doubted, ['bad'], 'the leader was asked to look')
  })

  test('fails again and again gets no request, even with good probes (153)', async () => {
    await using pair = await ask((socket) => socket.resetAndDestroy(), { withHealthy: true })
    const { current, upstreams } = pair.gateway
    for (let n = 0; n < 5; n++) assert.match(await pair.send(), /"healthy":true/)
    assert.equal(upstreams.breakerState('bad'), 'open')
    const asked = pair.bad.received.length
    for (let probe = 0; probe < 5; probe++) {
      current.swap({ ...current.get() })
      assert.match(await pair.send(), /"healthy":true/)
    }
    assert.equal(pair.bad.received.length, asked)
  })
})

suite('a node that, within its answer,', () => {
  const broken: readonly [name: string, serve: Serve][] = [
    [
      'resets',
      (socket) =>
        socket.write(ndjson + chunk(line('one')), () => setTimeout(() => socket.resetAndDestroy(), 20)),
    ],
    ['closes without the last chunk', (socket) => socket.end(ndjson + chunk(line('one')))],
    ['falls silent', (socket) => socket.write(ndjson + chunk(line('one')))],
    ['cuts a line in half', (socket) => socket.end(ndjson + chunk(line('one') + line('two').slice(0, 20)))],
    [
      'breaks its framing',
      (socket) =>
        socket.write(ndjson + chunk(line('one')), () => setTimeout(() => socket.write('zz\r\n'), 20)),
    ],
  ]
  for (const [name, serve] of broken) {
    test(`${name}, ends in an error line and a cut, never in a proper end, without a second attempt`, async () => {
      await using alone = await ask(serve, { withHealthy: true })
      const answer = await alone.send()
      assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*\n{"error":"[^"]+"}\n/)
      assert(!answer.endsWith('0\r\n\r\n'), 'the answer looks whole')
      assert.equal(alone.good.received.length, 0)
      assert.deepEqual(alone.gateway.scheduler.summary(), { running: {}, queued: 0 })
    })
  }
})

suite('sockets to a node', () => {
  test('a kept-alive socket that the node closes as we write is replaced silently (139)', async () => {
    // The second request on a connection is reset, as if the idle limit of the node ended at that moment.
    await using alone = await ask((socket, _bytes, nth) =>
      nth === 0 ? healthy(socket) : socket.resetAndDestroy(),
    )
    for (let n = 0; n < 4; n++) assert.match(await alone.send(), /200 OK[\s\S]*"healthy":true/)
    assert(alone.bad.received.length > 1)
  })

  test('a kept-alive socket that dies after a silence is no race: the request goes elsewhere, once (382)', async () => {
    const requests: string[] = []
    await using pair = await ask(
      (socket, bytes, nth) => {
        requests.push(bytes)
        if (nth === 0) healthy(socket)
        else setTimeout(() => socket.resetAndDestroy(), 600)
      },
      { withHealthy: true, timeouts: { ...timeouts, first_token: '5s' }, weight: 9 },
    )
    assert.match(await pair.send(), /"healthy":true/)
    const asked = requests.length
    assert.equal(asked, 1, 'the first request is answered by the node under test')
    const answer = await fetch(`${pair.gateway.url}/api/chat`, { method: 'POST', body: chat })
    assert.equal(answer.headers.get('x-llamero-node'), 'good')
    assert.equal(answer.headers.get('x-llamero-attempts'), '2')
    assert.equal(requests.length, asked + 1, 'the node is not asked a second time')
    assert.deepEqual(await results(pair.gateway, 'bad'), { done: 1, reset: 1 })
  })

  test('a kept-alive socket that dies within an answer head is no race either (382)', async () => {
    await using pair = await ask(
      (socket, _bytes, nth) => {
        if (nth === 0) healthy(socket)
        else socket.write('HTTP/1.1 200 O', () => setTimeout(() => socket.resetAndDestroy(), 20))
      },
      { withHealthy: true, weight: 9 },
    )
    assert.match(await pair.send(), /"healthy":true/)
    assert.match(await pair.send(), /x-llamero-node: good/)
    assert.deepEqual(await results(pair.gateway, 'bad'), { done: 1, reset: 1 })
  })

  test('bytes after a response reach no later caller (35)', async () => {
    await using alone = await ask((socket) => {
      healthy(socket)
      setTimeout(() => socket.write(rawAnswer('{"poison":true}')), 20)
    })
    assert.match(await alone.send(), /"healthy":true/)
    await eventually(() => alone.bad.closedAt[0] !== undefined, 'the poisoned socket is closed')
    assert.match(await alone.send(), /"healthy":true/)
  })
})
