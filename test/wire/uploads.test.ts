import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { routeSchema } from '../../lib/fleet/config.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, exchangeBytes, rawAnswer, startRawNode } from '../support/wire.ts'

const heard = rawAnswer('{"text":"heard"}')
const part = (name: string, value: string, extra = '') =>
  `--b\r\nContent-Disposition: form-data; name="${name}"${extra}\r\n\r\n${value}\r\n`
const file = (bytes: number) => part('file', 'x'.repeat(bytes), '; filename="a.mp3"')
const model = part('model', 'm')
const end = '--b--\r\n'
const type = 'Content-Type: multipart/form-data; boundary=b\r\n'
const head = (framing: string) =>
  `POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n${type}${framing}\r\n\r\n`
const sized = (form: string) => `${head(`Content-Length: ${form.length}`)}${form}`
const chunked = (form: string) =>
  `${head('Transfer-Encoding: chunked')}${form.length.toString(16)}\r\n${form}\r\n0\r\n\r\n`

/**
 * With this limit a form is sent as soon as its model is known; by default no slot is taken before 32 MiB have come.
 */
const passedOn = { limits: { body_bytes: 150_000 } }

type Serve = (socket: Socket, chunk: string, nth: number) => void
/** Responds at the end of the form. */
const listen: Serve = (socket, chunk) => void (chunk.includes(end) && socket.write(heard))

/** A gateway in front of nodes of bare bytes that have the model `m` loaded. */
async function start(
  serves: readonly Serve[],
  config = {},
  routes = {},
  options: Parameters<typeof startGateway>[1] = {},
  capabilities?: readonly string[],
) {
  const nodes = await Promise.all(serves.map((serve) => startRawNode(serve)))
  const sketches = nodes.map(({ url }, n) => ({
    name: `n${n}`,
    url,
    loaded: ['m:latest'],
    ...(capabilities && { capabilities }),
  }))
  const documents = new Map(Object.entries(routes).map(([name, route]) => [name, routeSchema.parse(route)]))
  const gateway = await startGateway(aSnapshot({ nodes: sketches, config, routes: documents }), options)
  return {
    ...gateway,
    nodes,
    body: (n: number) => nodes[n]?.received.join('').split('\r\n\r\n').slice(1).join('\r\n\r\n') ?? '',
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of nodes) await node[Symbol.asyncDispose]()
    },
  }
}

/** A caller that sends what the test says, and keeps what it gets. */
function aCaller(port: number) {
  const socket = connect(port, '127.0.0.1')
  const caller = { socket, received: '', closed: false }
  socket.on('error', () => {})
  socket.on('close', () => (caller.closed = true))
  socket.on('data', (chunk) => (caller.received += chunk.toString('latin1')))
  return caller
}

suite('an upload', () => {
  for (const [what, form] of [
    ['the model first', model + file(1000) + end],
    ['the file first', file(300_000) + model + end],
  ] as const) {
    test(`is sent to its node unchanged, with ${what} (75)`, async () => {
      await using gateway = await start([listen])
      assert.match(await exchangeBytes(gateway.port, sized(form), /heard/), /^HTTP\/1.1 200 OK/)
      assert.equal(gateway.body(0), form)
      assert.match(gateway.nodes[0]?.received[0] ?? '', new RegExp(`content-length: ${form.length}\r\n`, 'i'))
      assert.equal(gateway.pipeline.bodies.heldBytes, 0)
    })
  }

  test('without a length is sent without one', async () => {
    await using gateway = await start([listen])
    assert.match(
      await exchangeBytes(gateway.port, chunked(model + file(10) + end), /heard/),
      /^HTTP\/1.1 200/,
    )
    assert.match(gateway.nodes[0]?.received[0] ?? '', /transfer-encoding: chunked\r\n/i)
    assert(!/content-length/i.test(gateway.nodes[0]?.received[0] ?? ''))
  })

  test('for a model with another name in a route asks for that one', async () => {
    const routes = { r: { match: { model: 'whisper*' }, model: 'm' } }
    await using gateway = await start([listen], {}, routes)
    const form = file(100) + part('model', 'whisper-1') + part('language', 'en') + end
    assert.match(await exchangeBytes(gateway.port, sized(form), /heard/), /^HTTP\/1.1 200/)
    const expected = form.replace('whisper-1', 'm:latest')
    assert.equal(gateway.body(0), expected)
    assert.match(
      gateway.nodes[0]?.received[0] ?? '',
      new RegExp(`content-length: ${expected.length}\r\n`, 'i'),
    )
  })

  test('of great size is sent while it comes, and the connection serves the next request', async () => {
    await using gateway = await start([listen], passedOn)
    const caller = aCaller(gateway.port)
    const form = model + file(200_000) + end
    caller.socket.write(sized(form).slice(0, -50))
    await eventually(
      () => gateway.body(0).length === form.length - 50,
      'the node has what the caller has sent',
    )
    caller.socket.write(form.slice(-50))
    await eventually(() => caller.received.includes('heard'), 'the caller has its answer')
    caller.socket.write('GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await eventually(() => caller.closed, 'the next answer is out')
    assert.match(caller.received, /"version"/)
  })

  test('of any size waits for a slow node in little memory', async () => {
    await using gateway = await start([(socket, _chunk, nth) => void (nth === 0 && socket.pause())], passedOn)
    const caller = aCaller(gateway.port)
    const bytes = 64 * 1024 * 1024
    caller.socket.write(`${head(`Content-Length: ${10 * bytes}`)}${model}`)
    caller.socket.write(part('file', '', '; filename="a"').slice(0, -2))
    caller.socket.write(Buffer.alloc(bytes))
    let before = -1
    while (before !== caller.socket.bytesWritten - caller.socket.writableLength) {
      before = caller.socket.bytesWritten - caller.socket.writableLength
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    assert(before < bytes / 2, `${before} bytes went somewhere`)
    assert(
      gateway.pipeline.bodies.heldBytes < 4 * 1024 * 1024,
      `${gateway.pipeline.bodies.heldBytes} bytes held`,
    )
    caller.socket.destroy()
  })

  test('fails over when its node fails and all of it is kept', async () => {
    await using gateway = await start([(socket) => void socket.destroy(), listen])
    const form = model + file(500_000) + end
    assert.match(await exchangeBytes(gateway.port, sized(form), /heard/), /^HTTP\/1.1 200[\s\S]*attempts: 2/i)
    assert.equal(gateway.body(1), form)
  })

  test('that is too large to be kept fails with its node', async () => {
    let taken = 0
    const quits: Serve = (socket, chunk) => {
      taken += chunk.length
      if (taken > 5_000_000) socket.destroy()
    }
    await using gateway = await start([quits, listen], passedOn)
    const answer = await exchangeBytes(gateway.port, sized(model + file(8_000_000) + end), /\r\n\r\n./)
    assert.match(answer, /^HTTP\/1.1 502 [\s\S]*"error":\{"message":"the Ollama server failed/)
    assert.deepEqual(gateway.nodes[1]?.received, [])
    assert.equal(gateway.pipeline.bodies.heldBytes, 0)
  })

  test('ends at the node when its caller leaves', async () => {
    await using gateway = await start([listen], passedOn)
    const caller = aCaller(gateway.port)
    caller.socket.write(sized(model + file(200_000) + end).slice(0, -500))
    await eventually(() => gateway.body(0) !== '', 'the node has a part')
    caller.socket.resetAndDestroy()
    await eventually(
      () => gateway.nodes[0]?.closedAt[0] !== undefined,
      'the connection to the node is closed',
    )
    await eventually(() => gateway.lines.length === 1, 'the request is logged')
    assert.equal(gateway.lines[0]?.fields['outcome'], 'client_cancelled')
  })

  for (const [what, sent] of [
    ['before its model is known', file(10)],
    ['before all of it is here', model + file(10)],
    ['on its way to the node', model + file(200_000)],
  ] as const) {
    test(`that pauses too long ${what} is given up`, async () => {
      await using gateway = await start([listen], { ...passedOn, timeouts: { idle_upload: '100ms' } })
      const caller = aCaller(gateway.port)
      caller.socket.write(`${head('Content-Length: 999999')}${sent}`)
      await eventually(() => caller.closed, 'the caller is told', 5000)
      assert.match(caller.received, /^HTTP\/1.1 408 [\s\S]*"error":\{"message":"the request was not received/)
      if (gateway.nodes[0]?.received.length)
        await eventually(() => gateway.nodes[0]?.closedAt[0] !== undefined, 'the node is left')
    })
  }

  test('may take longer than a body that is read whole', async () => {
    const limits = { headersTimeout: 100, requestTimeout: 100, connectionsCheckingInterval: 20 }
    await using node = await startRawNode(listen)
    const nodes = [{ name: 'a', url: node.url, loaded: ['m:latest'] }]
    await using gateway = await startGateway(aSnapshot({ nodes }), { limits })
    const caller = aCaller(gateway.port)
    const form = sized(model + file(1000) + end)
    caller.socket.write(form.slice(0, -10))
    await new Promise((resolve) => setTimeout(resolve, 400))
    caller.socket.write(form.slice(-10))
    await eventually(() => caller.received.includes('heard'), 'the caller has its answer')
  })

  test('that a node refuses before its end gets the error of the node', async () => {
    const refuses: Serve = (socket, _chunk, nth) =>
      void (nth === 0 && socket.write(rawAnswer('{"error":{"message":"no"}}', { status: '400 Bad Request' })))
    await using gateway = await start([refuses], passedOn)
    const caller = aCaller(gateway.port)
    caller.socket.write(sized(model + file(200_000) + end).slice(0, -500))
    await eventually(() => caller.closed, 'the answer is out')
    assert.match(caller.received, /^HTTP\/1.1 400 [\s\S]*"message":"no"/)
    await eventually(() => gateway.nodes[0]?.closedAt[0] !== undefined, 'the node is left')
  })

  test('that a node does not read times out', async () => {
    await using gateway = await start([(socket) => void socket.pause()], {
      ...passedOn,
      timeouts: { between_tokens: '200ms' },
    })
    const answer = exchangeBytes(gateway.port, sized(model + file(20_000_000) + end), /\r\n\r\n./)
    assert.match(await answer, /^HTTP\/1.1 504 /)
  })

  test('gets an empty plain-text transcript as a response', async () => {
    const silent: Serve = (socket) => void socket.write(rawAnswer('', { type: 'text/plain; charset=utf-8' }))
    await using gateway = await start([silent])
    const answer = await exchangeBytes(gateway.port, sized(model + file(1) + end), /\r\n\r\n$/)
    assert.match(answer, /^HTTP\/1.1 200 OK\r\n(?:.*\r\n)*content-type: text\/plain/i)
  })
})

suite('a form that comes slowly', () => {
  test('takes no slot before it has come (344)', async () => {
    await using gateway = await start([listen])
    const caller = aCaller(gateway.port)
    const form = sized(model + file(300_000) + end)
    caller.socket.write(form.slice(0, -100))
    await eventually(() => gateway.pipeline.bodies.heldBytes > 300_000, 'all but its end is here')
    assert.deepEqual(gateway.scheduler.summary(), { running: {}, queued: 0 })
    assert.deepEqual(gateway.nodes[0]?.received, [])
    caller.socket.write(form.slice(-100))
    await eventually(() => caller.received.includes('heard'), 'the caller has its answer')
  })

  test('times out when slower than 1 KiB a second (344)', async () => {
    await using gateway = await start([listen], {}, {}, { clock: new RealClock(0.01) })
    const caller = aCaller(gateway.port)
    caller.socket.write(`${head('Content-Length: 99999')}${model}${file(10).slice(0, -20)}`)
    const trickle = setInterval(() => caller.socket.write('x'), 20)
    await eventually(() => caller.closed, 'the caller is told')
    clearInterval(trickle)
    assert.match(caller.received, /^HTTP\/1.1 408 [\s\S]*slower than 1024 bytes a second/)
    assert.deepEqual(gateway.nodes[0]?.received, [])
    assert.equal(gateway.pipeline.bodies.heldBytes, 0)
  })

  test('with a slot times out when slower than 256 KiB a second (344)', async () => {
    await using gateway = await start([listen], passedOn, {}, { clock: new RealClock(0.01) })
    const caller = aCaller(gateway.port)
    caller.socket.write(`${head('Content-Length: 9999999')}${model}${file(200_000).slice(0, -20)}`)
    const trickle = setInterval(() => caller.socket.write('x'.repeat(100)), 10)
    await eventually(() => caller.closed, 'the caller is told')
    clearInterval(trickle)
    assert.match(caller.received, /^HTTP\/1.1 408 [\s\S]*slower than 262144 bytes a second/)
    assert.deepEqual(gateway.scheduler.summary().running, {})
  })

  test('for a model without audio is refused with 400 (344)', async () => {
    await using gateway = await start([listen], {}, {}, {}, ['completion', 'vision'])
    const answer = await exchangeBytes(
      gateway.port,
      head('Content-Length: 9999') + model + file(10),
      /\r\n\r\n./,
    )
    assert.match(answer, /^HTTP\/1.1 400 [\s\S]*does not support audio/)
    assert.deepEqual(gateway.nodes[0]?.received, [])
  })
})

suite('of uploads, refused are', () => {
  const named = (disposition: string) => `--b\r\nContent-Disposition: ${disposition}\r\n\r\nm\r\n${end}`
  const cases: readonly [what: string, form: string, status: number][] = [
    ['one of an unknown model', part('model', 'other') + end, 404],
    ['one without a model', file(10) + end, 400],
    ['one with an empty model', part('model', '') + end, 400],
    ['one that ends early', model.slice(0, -10), 400],
    ['one that begins with something else', `preamble\r\n${model}${end}`, 400],
    ['one with bare line feeds', (model + end).replaceAll('\r\n', '\n'), 400],
    ['one with a model of great length', part('model', 'm'.repeat(3000)) + end, 400],
    [
      'one with a head of great length',
      part('x', 'y', `; filename="${'z'.repeat(20_000)}"`) + model + end,
      400,
    ],
    ['a model that is a file', part('model', 'm', '; filename=""') + model + end, 400],
    ['a disguised name', named("form-data; name*=utf-8''model"), 400],
    ['two names', named('form-data; name="x"; name="model"'), 400],
    ['an escaped name', named('form-data; name="mo\\del"'), 400],
    ['an encoded part', named('form-data; name="model"\r\nContent-Transfer-Encoding: quoted-printable'), 400],
    ['two dispositions', named('form-data; name="x"\r\nContent-Disposition: form-data; name="model"'), 400],
    ['a folded head', named('form-data;\r\n name="model"'), 400],
  ]
  for (const [what, form, status] of cases) {
    test(`${what} (75)`, async () => {
      await using gateway = await start([listen])
      const answer = await exchangeBytes(gateway.port, sized(form), /\r\n\r\n./)
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*"error":\\{"message"`))
      assert.deepEqual(gateway.nodes[0]?.received, [])
    })
  }

  test('no form, a compressed form, and a model field that comes too late (57, 70, 75)', async () => {
    await using gateway = await start([listen], { limits: { body_bytes: 65_536 } })
    const form = sized(model + end)
    for (const [bytes, status] of [
      [form.replace('multipart/form-data', 'application/json'), 400],
      [form.replace('boundary=b', 'boundary=b; boundary=c'), 400],
      [form.replace('Host: x', 'Host: x\r\nContent-Encoding: zstd'), 415],
      [sized(file(70_000) + model + end), 413],
    ] as const)
      assert.match(await exchangeBytes(gateway.port, bytes, /\r\n\r\n./), new RegExp(`^HTTP/1.1 ${status} `))
    assert.deepEqual(gateway.nodes[0]?.received, [])
  })
})
