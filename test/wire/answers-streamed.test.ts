import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '../support/wire.ts'
import { post, startWireGateway, type WireGateway } from '../support/wire-gateway.ts'

const request = post('/api/chat', '{"model":"m","messages":[]}', 'Connection: close\r\n')
const ndjson = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = (text: string | Buffer) =>
  Buffer.concat([
    Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n`),
    Buffer.from(text),
    Buffer.from('\r\n'),
  ])
const line = (content: string) => `${JSON.stringify({ message: { content }, done: false })}\n`
const done = `${JSON.stringify({ message: { content: '' }, done: true })}\n`
const end = '0\r\n\r\n'

/** The decoded body of a chunked response. */
function unchunk(answer: Buffer): Buffer {
  const pieces: Buffer[] = []
  for (let at = answer.indexOf('\r\n\r\n') + 4; ; ) {
    const from = answer.indexOf('\r\n', at) + 2
    const size = Number.parseInt(answer.toString('latin1', at, from - 2), 16)
    if (!(size > 0)) return Buffer.concat(pieces)
    pieces.push(answer.subarray(from, from + size))
    at = from + size + 2
  }
}

/** A caller that sends the request and keeps what it gets until its connection closes. */
function call(
  wire: WireGateway,
  options = {},
): { socket: Socket; answer: Promise<Buffer>; received: () => number } {
  const socket = connect({ port: wire.gateway.port, host: '127.0.0.1', ...options })
  const pieces: Buffer[] = []
  const { promise: answer, resolve } = Promise.withResolvers<Buffer>()
  socket.on('error', () => {})
  socket.on('data', (piece) => pieces.push(piece))
  socket.on('close', () => resolve(Buffer.concat(pieces)))
  socket.write(request)
  return { socket, answer, received: () => pieces.reduce((sum, { length }) => sum + length, 0) }
}

/** Streams lines until its caller is gone. */
const endless = (socket: Socket) => {
  socket.write(ndjson)
  const timer = setInterval(() => socket.write(chunk(line('x'))), 10)
  socket.once('close', () => clearInterval(timer))
}

suite('a caller', () => {
  test('that closes its sending half has left, as for Ollama, and its request is closed (161)', async () => {
    await using wire = await startWireGateway({ serve: endless })
    const { socket, answer, received } = call(wire, { allowHalfOpen: true })
    await eventually(() => received() > 0, 'the stream has begun')
    socket.end()
    await eventually(() => wire.node.closedAt[0] !== undefined, 'the node sees the connection close')
    assert(!(await answer).toString().endsWith(end), 'the answer looks whole')
    assert.equal(wire.gateway.lines[0]?.fields['status'], 499)
    await wire.assertWell()
  })

  for (const [how, leave] of [
    ['resets', (socket: Socket) => socket.resetAndDestroy()],
    ['closes', (socket: Socket) => socket.destroy()],
  ] as const) {
    test(`that ${how} its connection has its request to the node closed within a second (162)`, async () => {
      await using wire = await startWireGateway({ serve: endless })
      const { socket, received } = call(wire)
      await eventually(() => received() > 0, 'the stream has begun')
      const leftAt = performance.now()
      leave(socket)
      await eventually(() => wire.node.closedAt[0] !== undefined, 'the node sees the connection close')
      assert((wire.node.closedAt[0] ?? Number.NaN) - leftAt < 1000)
      await wire.assertWell()
    })
  }

  test('that vanishes is cut off by the limit for idle writes (162)', async () => {
    const piece = chunk(line('x'.repeat(100_000)))
    await using wire = await startWireGateway({
      config: { timeouts: { idle_write: '300ms' } },
      serve: (socket) => {
        const pour = () => {
          while (!socket.destroyed && socket.write(piece));
        }
        socket.on('drain', pour)
        socket.write(ndjson)
        pour()
      },
    })
    const { socket, received } = call(wire)
    await eventually(() => received() > 0, 'the stream has begun')
    socket.pause()
    await eventually(() => wire.node.closedAt[0] !== undefined, 'the node sees the connection close', 5000)
    socket.destroy()
    await wire.assertWell()
  })
})

suite('a stream', () => {
  test('passes byte for byte, with lines and characters cut at any place (163)', async () => {
    const text = Buffer.from(line('日本語 🦙 é') + line('two') + done)
    await using wire = await startWireGateway({
      serve: (socket) => {
        socket.setNoDelay(true)
        void (async () => {
          socket.write(ndjson)
          for (const byte of text) {
            socket.write(chunk(Buffer.from([byte])))
            await new Promise(setImmediate)
          }
          socket.write(end)
        })()
      },
    })
    assert.deepEqual(unchunk(await call(wire).answer), text)
    await wire.assertWell()
  })

  test('sends each piece when it comes (164)', async () => {
    const sentAt: number[] = []
    const delays: number[] = []
    const count = 51
    await using wire = await startWireGateway({
      serve: (socket) => {
        void (async () => {
          socket.write(ndjson)
          for (let n = 0; n < count; n++) {
            await sleep(10)
            sentAt.push(performance.now())
            socket.write(chunk(line(`piece ${n}`)))
          }
          socket.write(Buffer.concat([chunk(done), Buffer.from(end)]))
        })()
      },
    })
    const { socket, answer } = call(wire)
    socket.on('data', (bytes) => {
      const [, n] = /piece (\d+)/.exec(bytes.toString()) ?? []
      if (n) delays.push(performance.now() - (sentAt[Number(n)] ?? Number.NaN))
    })
    await answer
    const median = delays.toSorted((a, b) => a - b)[delays.length >> 1] ?? Number.NaN
    assert(delays.length > count / 2, 'pieces were gathered')
    assert(median <= 5, `a piece took ${median} ms`)
    await wire.assertWell()
  })

  test('of 60 MB in one JSON document passes whole, and its first half before the node has the second (168)', async () => {
    const half = Buffer.alloc(30e6, '[0.123456789],')
    const parts = [Buffer.from('{"embeddings":['), half, half, Buffer.from('[0]]}')]
    const size = parts.reduce((sum, { length }) => sum + length, 0)
    const rest = Promise.withResolvers<void>()
    await using wire = await startWireGateway({
      serve: (socket) => {
        const [head = half, first = half, ...others] = parts
        socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${size}\r\n\r\n`)
        socket.write(head)
        socket.write(first)
        void rest.promise.then(() => {
          for (const part of others) socket.write(part)
        })
      },
    })
    const { socket, answer, received } = call(wire)
    await eventually(() => received() > 25e6, 'the first half comes through', 10_000)
    rest.resolve()
    const whole = await answer
    assert(socket.destroyed)
    assert.equal(Buffer.concat(parts).compare(whole.subarray(whole.indexOf('\r\n\r\n') + 4)), 0)
    await wire.assertWell()
  })
})
