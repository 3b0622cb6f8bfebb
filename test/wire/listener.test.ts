import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { RealClock } from '../../lib/shared/clock.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, exchangeBytes, rawAnswer, startRawNode } from '../support/wire.ts'

const chat = '{"model":"m","messages":[]}'
const post = (body: string, headers = '') =>
  `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`
const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`
const version = get('/api/version', 'Connection: close\r\n')
const ndjson = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const bodyOf = (bytes: number) => `{"model":"m","x":"${'x'.repeat(bytes - 20)}"}`

/** Quick limits, so that a test waits milliseconds; the behaviour is that of the long ones. */
const quick = { headersTimeout: 200, requestTimeout: 300, connectionsCheckingInterval: 50 }

type Limits = NonNullable<Parameters<typeof startGateway>[1]>['limits']

interface Sketch {
  readonly serve?: (socket: Socket, chunk: string, nth: number) => void
  readonly config?: Record<string, unknown>
  readonly limits?: Limits
  readonly models?: readonly string[]
  readonly clock?: RealClock
}

/** A gateway with one raw node, which by default responds at once. */
async function start({
  serve = (socket) => socket.write(rawAnswer('{"done":true}')),
  config = {},
  limits = {},
  models = ['m:latest'],
  clock = new RealClock(),
}: Sketch = {}) {
  const node = await startRawNode(serve)
  const nodes = [{ name: 'a', url: node.url, slots: 8, models, loaded: ['m:latest'] }]
  const gateway = await startGateway(aSnapshot({ nodes, config }), { limits, clock })
  return {
    node,
    ...gateway,
    refused: async () => {
      const { values } = await gateway.metrics.connectionsRefused.get()
      return Object.fromEntries(values.map(({ labels, value }) => [labels.limit, value]))
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await node[Symbol.asyncDispose]()
    },
  }
}

/** A raw caller: its socket, and what it has received. */
async function call(port: number, bytes = '') {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const caller = {
    socket,
    received: '',
    closed: false,
    [Symbol.dispose]: () => socket.destroy(),
  }
  socket.on('data', (chunk) => {
    caller.received += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  socket.on('end', () => socket.end())
  socket.on('close', () => {
    caller.closed = true
  })
  await once(socket, 'connect')
  socket.write(bytes)
  return caller
}

suite('a caller who is slow', { concurrency: 3 }, () => {
  const slow: readonly [name: string, bytes: string][] = [
    ['in sending its head (123)', 'GET /api/version HTTP/1.1\r\nHost: '],
    ['in sending anything (126)', ''],
    ['in sending its body (124)', post(chat).slice(0, -5)],
    [
      'in ending its chunks (27)',
      'POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"mod\r\n',
    ],
  ]
  for (const [name, bytes] of slow) {
    test(`${name} gets 408, is closed, takes no slot, and delays no other`, async () => {
      await using gateway = await start({ limits: quick })
      using caller = await call(gateway.port, bytes)
      assert.match(await exchangeBytes(gateway.port, version), /^HTTP\/1.1 200/)
      assert.equal(caller.closed, false)
      assert.deepEqual(gateway.scheduler.summary(), { running: {}, queued: 0 })
      await eventually(() => caller.closed, 'the connection is closed', 5000)
      assert.match(caller.received, /^HTTP\/1.1 408 /)
      assert.deepEqual(gateway.node.received, [])
      assert.equal(gateway.pipeline.bodies.heldBytes, 0)
    })
  }

  test("in sending its body gets 408 in its API's format, as the log says (124)", async () => {
    await using gateway = await start({ limits: quick })
    using caller = await call(gateway.port, post(chat).slice(0, -5))
    await eventually(
      () => caller.received.includes('{"error":"the request was not received in time; send it again"}'),
      '408',
    )
    await eventually(() => gateway.lines.some(({ fields }) => fields['status'] === 408), 'the log says 408')
  })

  test('in getting its response from a slow node is not cut off by the limit for requests (128)', async () => {
    const serve = (socket: Socket) => {
      socket.write(`${ndjson}6\r\n{"a":1\r\n`)
      setTimeout(() => socket.write('f\r\n,"done":true}\n\n\r\n0\r\n\r\n'), 900)
    }
    await using gateway = await start({ serve, limits: quick })
    using caller = await call(gateway.port, post(chat))
    await eventually(() => caller.received.endsWith('0\r\n\r\n'), 'the answer is whole', 5000)
    assert.match(caller.received, /"done":true/)
  })
})

suite('a caller who does not fetch its answer', () => {
  /** Some ten megabytes, more than the kernel buffers. */
  const models = Array.from({ length: 40_000 }, (_, n) => `model-${n}-${'x'.repeat(40)}:latest`)
  const config = { timeouts: { idle_write: '1s' } }

  test('is cut off when the written response makes no progress (125)', async () => {
    await using gateway = await start({ models, config })
    using caller = await call(gateway.port)
    caller.socket.pause()
    caller.socket.write(get('/api/tags'))
    await eventually(() => gateway.lines.length === 1, 'the answer is written')
    let idle = false
    void gateway.pipeline.exchanges.idle().then(() => {
      idle = true
    })
    await sleep(100)
    assert.equal(idle, false, 'the answer is still being fetched')
    await eventually(() => idle, 'the connection is closed', 3000)
  })

  test('is served to the end when it reads slowly (125)', async () => {
    await using gateway = await start({ models, config })
    using caller = await call(gateway.port)
    caller.socket.pause()
    caller.socket.write(get('/api/tags', 'Connection: close\r\n'))
    // A megabyte every 250 ms: all of it takes more than twice the limit. The kernel reports room only when a third
    // of its buffer is free: with less than a megabyte that would take longer than the limit.
    while (!caller.closed && !caller.received.endsWith(']}')) {
      const enough = caller.received.length + 1_000_000
      caller.socket.resume()
      while (caller.received.length < enough && !caller.closed && !caller.received.endsWith(']}'))
        await sleep(1)
      caller.socket.pause()
      await sleep(250)
    }
    const [head = '', body = ''] = caller.received.split('\r\n\r\n')
    assert.equal(body.length, Number(/content-length: (\d+)/i.exec(head)?.[1]))
  })
})

suite('connections', () => {
  test('over the limit of one address are answered 503 and closed, until one of the others ends (126)', async () => {
    await using gateway = await start({ config: { limits: { connections_per_address: 2 } } })
    using first = await call(gateway.port)
    using _second = await call(gateway.port, 'GET /')
    assert.match(await exchangeBytes(gateway.port, version), /^(HTTP\/1.1 503 |$)/)
    assert.deepEqual(await gateway.refused(), { per_address: 1 })
    first.socket.destroy()
    await eventually(() => first.closed, 'the first is closed')
    await sleep(50)
    assert.match(await exchangeBytes(gateway.port, version), /^HTTP\/1.1 200/)
  })

  test('over the limit of all addresses together are closed (126)', async () => {
    await using gateway = await start({ limits: { maxConnections: 1 } })
    using _first = await call(gateway.port, 'GET /')
    assert.equal(await exchangeBytes(gateway.port, version), '')
    assert.deepEqual(await gateway.refused(), { total: 1 })
  })

  test('that are kept alive may be reused for longer than we say, and are then closed (127)', async () => {
    await using gateway = await start({ limits: { keepAliveTimeout: 1000 } })
    using caller = await call(gateway.port, get('/api/version'))
    await eventually(() => /Keep-Alive: timeout=1,/.test(caller.received), 'the first answer')
    await sleep(1300)
    caller.received = ''
    caller.socket.write(get('/api/version'))
    await eventually(() => caller.received.startsWith('HTTP/1.1 200'), 'the second answer')
    await eventually(() => caller.closed, 'the idle connection is closed', 5000)
  })

  test('end after their limit of requests, with Connection: close, and 503 for later ones', async () => {
    await using gateway = await start({ limits: { maxRequestsPerSocket: 2 } })
    const answer = await exchangeBytes(gateway.port, get('/api/version').repeat(3))
    const heads = answer.split('HTTP/1.1 ').slice(1)
    assert.deepEqual(
      heads.map((head) => [head.slice(0, 3), /connection: close/i.test(head)]),
      [
        ['200', false],
        ['200', true],
        ['503', true],
      ],
    )
    assert.deepEqual(await gateway.refused(), { requests: 1 })
  })
})

suite('heads', () => {
  const headers = (count: number) => Array.from({ length: count }, (_, n) => `a${n}: b\r\n`).join('')

  test('with 900 headers pass, with 1,500 or 16 KB are refused with 431 (53)', async () => {
    await using gateway = await start()
    const send = (extra: string) => exchangeBytes(gateway.port, get('/api/version', extra), /\r\n\r\n/)
    assert.match(await send(headers(900)), /^HTTP\/1.1 200/)
    assert.match(await send(headers(1500)), /^HTTP\/1.1 431/)
    assert.match(await send(`a: ${'b'.repeat(16 * 1024)}\r\n`), /^HTTP\/1.1 431/)
  })

  // Node's parser skips them at bounded cost.
  test('may follow empty lines, even a megabyte, skipped in less than 100 ms (17)', async () => {
    await using gateway = await start()
    for (const lines of [1, 100, 500_000]) {
      const before = process.cpuUsage()
      assert.match(await exchangeBytes(gateway.port, '\r\n'.repeat(lines) + version), /^HTTP\/1.1 200/)
      const { user, system } = process.cpuUsage(before)
      assert(user + system < 100_000, `${lines} lines took ${user + system} us`)
    }
  })
})

suite('pipelined requests', () => {
  test('are answered in order, one at a time (18)', async () => {
    await using gateway = await start()
    const answer = await exchangeBytes(gateway.port, (get('/api/version') + get('/nothing')).repeat(20))
    assert.deepEqual(
      [...answer.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status),
      Array.from({ length: 20 }, () => ['200', '404']).flat(),
    )
  })

  test('wait without a slot, and end with their caller (18, 160)', async () => {
    await using gateway = await start({ serve: () => {} })
    using caller = await call(gateway.port, post(chat).repeat(3))
    await eventually(() => gateway.node.received.length === 1, 'the first is with the node')
    await sleep(50)
    assert.deepEqual(gateway.scheduler.summary(), { running: { a: 1 }, queued: 0 })
    caller.socket.destroy()
    await eventually(() => gateway.node.closedAt[0] !== undefined, "the node's request is closed")
    await sleep(50)
    assert.equal(gateway.node.received.length, 1)
  })

  test('close the connection when there are ten thousand, at bounded cost (19)', async () => {
    await using gateway = await start({ serve: () => {} })
    const before = process.memoryUsage().rss
    using caller = await call(gateway.port, post(chat).repeat(10_000))
    await eventually(() => caller.closed, 'the connection is closed')
    const grownMiB = (process.memoryUsage().rss - before) / 1024 ** 2
    assert(grownMiB < 50, `${grownMiB} MiB`)
    assert.deepEqual(await gateway.refused(), { pipelined: 1 })
    assert(gateway.node.received.length <= 1)
    await gateway.pipeline.exchanges.idle()
    assert.match(await exchangeBytes(gateway.port, version), /^HTTP\/1.1 200/)
  })

  test('behind the last response of their connection are not served (18, 33)', async () => {
    await using gateway = await start()
    for (let round = 1; round <= 10; round++) {
      // Refused before its body has come, so this response is the last. What follows is read at once, in the two
      // buffers of the parser: the rest of the body and a waiting request, then one for which Node has a free socket.
      const waiting = get('/waiting')
      const rest = 'x'.repeat(64 * 1024 - waiting.length)
      using caller = await call(
        gateway.port,
        post(rest).replace('/api/chat', '/refused').slice(0, -rest.length),
      )
      await eventually(() => caller.received.includes('no such path'), 'the refusal')
      caller.socket.write(`${rest}${waiting}${get('/late')}this is no HTTP\r\n\r\n`)
      await eventually(() => caller.closed, 'the connection is closed')
      assert.deepEqual(caller.received.match(/HTTP\/1.1 \d+/g), ['HTTP/1.1 404'])
      assert.equal(gateway.lines.length, round, 'one of the others was served')
    }
    assert.match(await exchangeBytes(gateway.port, version), /^HTTP\/1.1 200/)
  })

  test('that are no HTTP cut the current response, and add no byte to it (33)', async () => {
    const serve = (socket: Socket) => socket.write(`${ndjson}8\r\n{"a":1}\n\r\n`)
    await using gateway = await start({ serve })
    using caller = await call(gateway.port, post(chat))
    await eventually(() => caller.received.includes('{"a":1'), 'the answer has begun')
    caller.socket.write('this is no HTTP\r\n\r\n')
    await eventually(() => caller.closed, 'the connection is closed')
    assert.match(caller.received, /\{"a":1\}\n\r\n$/)
    await eventually(() => gateway.node.closedAt[0] !== undefined, "the node's request is closed")
  })
})

suite('a caller who leaves by', () => {
  const ways: readonly [name: string, leave: (socket: Socket) => void][] = [
    ['closing its half of the connection (161)', (socket) => socket.end()],
    ['resetting the connection (162)', (socket) => socket.resetAndDestroy()],
  ]
  for (const [name, leave] of ways) {
    test(`${name} has its request ended, its slot given back, and 499 in the log`, async () => {
      await using gateway = await start({ serve: () => {} })
      using caller = await call(gateway.port, post(chat))
      await eventually(() => gateway.node.received.length === 1, 'the node has the request')
      leave(caller.socket)
      await eventually(() => gateway.node.closedAt[0] !== undefined, "the node's request is closed", 1000)
      await eventually(() => gateway.lines.some(({ fields }) => fields['status'] === 499), '499')
      assert.deepEqual(gateway.scheduler.summary(), { running: {}, queued: 0 })
      assert.equal(gateway.pipeline.bodies.heldBytes, 0)
    })
  }
})

suite('request bodies', () => {
  const config = { limits: { body_bytes: 65_536, inflight_body_bytes: 100_000 } }
  const large = bodyOf(60_000)

  test('that do not fit beside held bodies get 503 until those are released (71)', async () => {
    await using gateway = await start({ serve: () => {}, config })
    using holder = await call(gateway.port, post(large))
    await eventually(() => gateway.node.received.length === 1, 'the first is with the node')
    assert.equal(gateway.pipeline.bodies.heldBytes, 60_000)
    const refusal = await exchangeBytes(gateway.port, post(large), /\{"error":/)
    assert.match(refusal, /^HTTP\/1.1 503 [\s\S]*retry-after: 2\r\n[\s\S]*too many request bodies/i)
    assert.equal(gateway.node.received.length, 1, 'no node saw it')
    holder.socket.destroy()
    await eventually(() => gateway.pipeline.bodies.heldBytes === 0, 'the bytes are given back')
    using _next = await call(gateway.port, post(large))
    await eventually(() => gateway.node.received.length === 2, 'the next is with the node')
  })

  test('that do not fit are refused before 100 Continue (38, 71)', async () => {
    await using gateway = await start({ serve: () => {}, config })
    using _holder = await call(gateway.port, post(large))
    await eventually(() => gateway.node.received.length === 1, 'the first is with the node')
    const head = post(large, 'Expect: 100-continue\r\n').slice(0, -large.length)
    assert.match(await exchangeBytes(gateway.port, head, /\{"error":/), /^HTTP\/1.1 503 /)
  })

  test('that are announced and do not come take no memory from others (344)', async () => {
    await using gateway = await start({ config })
    const head = post(large).slice(0, -large.length)
    const idlers = await Promise.all(Array.from({ length: 8 }, () => call(gateway.port, head)))
    assert.match(await exchangeBytes(gateway.port, post(large), /"done":true/), /^HTTP\/1.1 200 /)
    assert(gateway.pipeline.bodies.heldBytes <= 60_000)
    for (const idler of idlers) idler[Symbol.dispose]()
  })

  test('slower than 1 KiB a second get 408 in the format of their API (344)', async () => {
    await using gateway = await start({ clock: new RealClock(0.01) })
    for (const framing of ['Content-Length: 9999', 'Transfer-Encoding: chunked']) {
      using caller = await call(
        gateway.port,
        `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n${framing}\r\n\r\n1\r\n{\r\n`,
      )
      await eventually(() => caller.closed, 'the connection is closed', 5000)
      assert.match(
        caller.received,
        /^HTTP\/1.1 408 [\s\S]*"message":"the request body arrived slower than 1024/,
      )
    }
    assert.equal(gateway.pipeline.bodies.heldBytes, 0)
    assert.deepEqual(gateway.node.received, [])
  })

  test('count as they come when their length is not announced, also when the caller leaves (71)', async () => {
    await using gateway = await start({ serve: () => {}, config })
    const chunked = `POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`
    using first = await call(gateway.port, `${chunked}ea60\r\n${large}\r\n`)
    await eventually(() => gateway.pipeline.bodies.heldBytes >= 60_000, 'the first counts')
    const second = `${chunked}ea60\r\n${large}\r\n0\r\n\r\n`
    assert.match(await exchangeBytes(gateway.port, second, /\{"error":/), /^HTTP\/1.1 503 /)
    first.socket.resetAndDestroy()
    await eventually(() => gateway.pipeline.bodies.heldBytes === 0, 'the bytes are given back')
    assert.deepEqual(gateway.node.received, [])
  })

  test('in chunks of one byte take no more than twice their bytes', async () => {
    await using gateway = await start({ serve: () => {} })
    const body = bodyOf(20_000)
    const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join('')
    using _caller = await call(
      gateway.port,
      `POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`,
    )
    await eventually(() => gateway.node.received[0]?.endsWith(body) ?? false, 'the node has it whole')
    assert(gateway.pipeline.bodies.heldBytes <= 40_000, `${gateway.pipeline.bodies.heldBytes} bytes`)
  })

  test('that break off or break their framing get 400 in the format of their API, and reach no node (26, 32)', async () => {
    await using gateway = await start()
    using broken = await call(
      gateway.port,
      'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeX',
    )
    using short = await call(gateway.port, post(chat).slice(0, -5))
    short.socket.end()
    await eventually(() => broken.closed && short.closed, 'both connections are closed', 3000)
    assert.match(broken.received, /^HTTP\/1.1 400 [\s\S]*"type":"invalid_request_error"/)
    assert.match(short.received, /^HTTP\/1.1 400 /)
    assert.deepEqual(gateway.node.received, [])
    assert.equal(gateway.pipeline.bodies.heldBytes, 0)
  })
})
