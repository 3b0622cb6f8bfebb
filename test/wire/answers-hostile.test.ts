import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { HeldPieces, heldResponseBytes } from '../../lib/gateway/response/response-memory.ts'
import { StreamParser } from '../../lib/gateway/response/stream-parser.ts'
import { CpuReport, cpuMs, longestTurnMs } from '../support/cpu.ts'
import { eventually } from '../support/wire.ts'
import { chat, post, startWireGateway } from '../support/wire-gateway.ts'

const kib = 1024
const head = (status: string, type: string) =>
  `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`

/** Each byte in its own chunk. */
function byBytes(text: string): string {
  return [...text].map((byte) => `1\r\n${byte}\r\n`).join('')
}

function writes(text: string) {
  return (socket: Socket) => void socket.write(text)
}

suite('an answer that a node writes byte by byte', () => {
  const answerOf = (bytes: number) => `{"message":{"content":"${'x'.repeat(bytes)}"},"done":true}`
  test('is held in twice its bytes, within a budget, and released (346)', () => {
    const held = new HeldPieces(kib * kib)
    for (let n = 0; n < 200 * kib; n++) assert(held.add(Buffer.from('x')))
    assert(
      heldResponseBytes() >= 200 * kib && heldResponseBytes() <= 400 * kib,
      `${heldResponseBytes()} bytes`,
    )
    assert.equal(held.bytes.length, 200 * kib)
    assert(!held.add(Buffer.alloc(kib * kib)), 'more than such an answer may have')
    held[Symbol.dispose]()
    assert.equal(heldResponseBytes(), 0)
  })

  for (const [what, status, type, body, expected] of [
    ['whole', '200 OK', 'application/json', answerOf(300), /^HTTP\/1.1 200 [\s\S]*"done":true/],
    [
      'as a stream of one line',
      '200 OK',
      'application/x-ndjson',
      `${answerOf(300)}\n`,
      /^HTTP\/1.1 200 [\s\S]*"done":true/,
    ],
    ['as an error', '400 Bad Request', 'application/json', '{"error":"no"}', /^HTTP\/1.1 400 [\s\S]*"no"/],
  ] as const) {
    test(`comes to its caller ${what} while it is short (346)`, async () => {
      await using wire = await startWireGateway({
        serve: writes(`${head(status, type)}${byBytes(body)}0\r\n\r\n`),
      })
      assert.match(await wire.send(post('/api/chat', chat), expected), expected)
      await wire.assertWell()
      assert.equal(heldResponseBytes(), 0)
    })
  }

  for (const [what, status, type] of [
    ['an answer', '200 OK', 'application/json'],
    ['a stream', '200 OK', 'application/x-ndjson'],
    ['an error', '400 Bad Request', 'application/json'],
  ] as const) {
    const bytes = `${head(status, type)}${byBytes(answerOf(20 * kib))}0\r\n\r\n`
    test(`is the node's failure when it is long, and ends the connection: ${what} (346)`, async () => {
      await using wire = await startWireGateway({ serve: writes(bytes) })
      const answer = await wire.send(post('/api/chat', chat), /\r\n\r\n./)
      assert.match(answer, /^HTTP\/1.1 502 [\s\S]*{"error":/)
      await eventually(() => wire.node.closedAt[0] !== undefined, 'the node sees its connection closed')
      await wire.assertWell()
      assert.equal(heldResponseBytes(), 0)
    })
  }

  test('ends with an error in the stream when its beginning has reached the caller (346)', async () => {
    const line = `${answerOf(40).replace(',"done":true', '')}\n`
    const begun = `${line.length.toString(16)}\r\n${line}\r\n`
    await using wire = await startWireGateway({
      serve: writes(`${head('200 OK', 'application/x-ndjson')}${begun}${byBytes(answerOf(20 * kib))}`),
    })
    const streamed = chat.replace(',"stream":false', '')
    const answer = await wire.send(post('/api/chat', streamed))
    assert.match(answer, /^HTTP\/1.1 200 [\s\S]*"content":"x{40}"[\s\S]*{"error":/)
    await wire.assertWell()
  })

  for (const size of [1, 20])
    test(`four of them with chunks of ${size} bytes make no turn of the event loop long (346)`, async (test) => {
      const piece = `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`
      const endless = Buffer.from(
        `${head('200 OK', 'application/x-ndjson')}${piece.repeat((512 * kib) / piece.length)}`,
      )
      let longest = Number.POSITIVE_INFINITY
      for (let round = 0; round < 5 && longest > 15; round++) {
        // With a new gateway each time: the breaker of the node opens.
        await using wire = await startWireGateway({ serve: (socket) => void socket.write(endless) })
        const ask = () => wire.send(post('/api/chat', chat), /\r\n\r\n./)
        const measured = await longestTurnMs(() => Promise.all([ask(), ask(), ask(), ask()]), { rounds: 1 })
        longest = Math.min(longest, measured)
      }
      test.diagnostic(`${longest.toFixed(1)} ms`)
      // 64 KiB of one-byte chunks take Node's parser 7 ms, and cannot be interrupted.
      assert(longest <= 30, `${longest.toFixed(1)} ms`)
    })
})

suite('an error of a node', () => {
  for (const [what, body] of [
    ['of a megabyte', `{"error":"${'x'.repeat(kib * kib)}"}`],
    ['of brackets', '['.repeat(60 * kib)],
    ['of JSON in JSON', `{"error":${JSON.stringify(`{"error":${'['.repeat(30_000)}`)}}`],
  ] as const) {
    test(`${what} is not passed on, and blocks nothing (346)`, async () => {
      const length = `Content-Length: ${body.length}\r\n\r\n${body}`
      await using wire = await startWireGateway({
        serve: writes(`HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n${length}`),
      })
      const answer = await wire.send(post('/api/chat', chat), /\r\n\r\n./)
      assert.match(answer, /^HTTP\/1.1 50\d /)
      assert(answer.length < 64 * kib, `${answer.length} bytes reached the caller`)
      await wire.assertWell()
    })
  }
})

suite('a head of an answer', () => {
  for (const [what, bytes] of [
    ['that follows interim answers without an end', 'HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n'.repeat(2000)],
    ['without an end', `HTTP/1.1 200 OK\r\n${'X-Header: value\r\n'.repeat(10_000)}`],
    ['with one endless line', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}`],
  ] as const) {
    test(`${what} is the node's failure, at once (346)`, async () => {
      await using wire = await startWireGateway({ serve: writes(bytes) })
      assert.match(await wire.send(post('/api/chat', chat), /\r\n\r\n./), /^HTTP\/1.1 502 /)
      await wire.assertWell()
    })
  }
})

test('no piece of a stream takes long, in any chunks (346)', (test) => {
  const report = new CpuReport()
  const line = (bytes: number) => Buffer.from(`{"message":{"content":"${'x'.repeat(bytes)}"}}\n`)
  for (const [name, text, type] of [
    ['one long line', line(1024 * kib), 'application/x-ndjson'],
    ['one long event', Buffer.from(`data: ${'x'.repeat(1024 * kib)}`), 'text/event-stream'],
    ['empty lines', Buffer.alloc(64 * kib, '\n'), 'application/x-ndjson'],
    ['events that are none', Buffer.from('x\n'.repeat(32 * kib)), 'text/event-stream'],
    ['open brackets', Buffer.from(`{"a":${'['.repeat(1000 * kib)}\n`), 'application/x-ndjson'],
    [
      'open brackets in an event',
      Buffer.from(`data: {"a":${'['.repeat(1000 * kib)}\n\n`),
      'text/event-stream',
    ],
  ] as const)
    for (const size of [1, 7, 64 * kib])
      report.add(
        `${name} in pieces of ${size}, for each 64 KiB`,
        cpuMs(() => readAll(type, text, size), { enough: 5 }) / Math.max(1, text.length / (64 * kib)),
      )
  for (const each of report.lines()) test.diagnostic(each)
  assert(report.longest <= 20, report.lines().join('\n'))
})

function readAll(type: string, text: Buffer, size: number): void {
  const tail = new StreamParser('ollama_chat', type)
  for (let at = 0; at < text.length; at += size) tail.read(text.subarray(at, at + size))
  tail.end()
}

test('complete lines and events are found by reading only new bytes (346)', () => {
  const text = fc
    .array(fc.constantFrom('\r', '\n', 'x', '\r\n\r\n'), { maxLength: 12 })
    .map((parts) => parts.join(''))
  const type = fc.constantFrom('text/event-stream', 'application/x-ndjson')
  fc.assert(
    fc.property(text, fc.nat(12), type, (all, known, contentType) => {
      const tail = new StreamParser('ollama_chat', contentType)
      const end = tail.boundary(Buffer.from(all))
      assert.equal(tail.boundary(Buffer.from(all), known), end > known ? end : 0)
    }),
  )
})
