import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { aSnapshot } from '../support/fleet.ts'
import type { LoggedLine } from '../support/gateway.ts'
import { startGateway } from '../support/gateway.ts'
import { exchangeBytes, rawAnswer, startRawNode } from '../support/wire.ts'

type Serve = (socket: Socket) => void

const body = '{"model":"m","stream":true}'
const request = (path: string) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const lastChunk = '0\r\n\r\n'
const head = (type: string) =>
  `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`
const data = (json: unknown) => `data: ${JSON.stringify(json)}\n\n`

/** A request to a broken node, alone or beside one that answers `whole`. */
async function ask(path: string, serve: Serve, whole?: string) {
  const bad = await startRawNode((socket) => serve(socket))
  const good = await startRawNode((socket) => socket.write(whole ?? ''))
  const nodes = [
    { name: 'bad', url: bad.url, loaded: ['m:latest'], slots: 8 },
    ...(whole === undefined ? [] : [{ name: 'good', url: good.url, loaded: ['m:latest'], slots: 1 }]),
  ]
  const gateway = await startGateway(
    aSnapshot({ nodes, config: { timeouts: { between_tokens: '200ms', first_token: '200ms' } } }),
  )
  const answer = await exchangeBytes(gateway.port, request(path), /\r\n0\r\n\r\n$/)
  const outcome = {
    answer,
    text: dechunk(answer),
    line: gateway.lines.at(-1) as LoggedLine,
    asked: good.received.length,
    malformed: (await gateway.metrics.malformedLines.get()).values[0]?.value ?? 0,
    running: gateway.scheduler.summary(),
  }
  for (const each of [gateway, bad, good]) await each[Symbol.asyncDispose]()
  assert.deepEqual(outcome.running, { running: {}, queued: 0 })
  return outcome
}

/** The decoded body of a chunked response, as far as it came. */
function dechunk(answer: string): string {
  const start = answer.indexOf('\r\n\r\n') + 4
  return answer
    .slice(start)
    .replace(/(?:^|\r\n)[0-9a-f]+\r\n/g, '')
    .replace(/\r\n$/, '')
}

interface Dialect {
  readonly name: string
  readonly path: string
  readonly type: string
  /** One piece of a response, and its end. */
  readonly piece: string
  readonly end: string
  /** The error in the stream. */
  readonly told: RegExp
}

const dialects: readonly Dialect[] = [
  {
    name: 'native chat',
    path: '/api/chat',
    type: 'application/x-ndjson',
    piece: '{"message":{"content":"a"},"done":false}\n',
    end: '{"message":{"content":""},"done":true}\n',
    told: /\n{"error":"[^"]+"}\n$/,
  },
  {
    name: 'native generate',
    path: '/api/generate',
    type: 'application/x-ndjson',
    piece: '{"response":"a","done":false}\n',
    end: '{"response":"","done":true}\n',
    told: /\n{"error":"[^"]+"}\n$/,
  },
  {
    name: 'OpenAI chat',
    path: '/v1/chat/completions',
    type: 'text/event-stream',
    piece: data({ model: 'm', choices: [{ delta: { content: 'a' }, finish_reason: null }] }),
    end: `${data({ model: 'm', choices: [{ delta: {}, finish_reason: 'stop' }] })}data: [DONE]\n\n`,
    told: /\ndata: {"error":{"message":"[^"]+","type":"api_error".*}}\n\n$/,
  },
  {
    name: 'OpenAI responses',
    path: '/v1/responses',
    type: 'text/event-stream',
    piece: data({ type: 'response.output_text.delta', delta: 'a' }),
    end: data({ type: 'response.completed', response: {} }),
    told: /\ndata: {"error":{"message":"[^"]+".*}}\n\n$/,
  },
  {
    name: 'Anthropic messages',
    path: '/v1/messages',
    type: 'text/event-stream',
    piece: `event: content_block_delta\n${data({ type: 'content_block_delta', delta: { text: 'a' } })}`,
    end: `event: message_stop\n${data({ type: 'message_stop' })}`,
    told: /\nevent: error\ndata: {"type":"error","error":{"type":"api_error","message":"[^"]+"}.*}\n\n$/,
  },
]

for (const { name, path, type, piece, end, told } of dialects) {
  const whole = head(type) + chunk(piece) + chunk(end) + lastChunk
  suite(`a stream of ${name}`, () => {
    test('that is complete passes byte by byte (165)', async () => {
      const { text, line } = await ask(path, (socket) => socket.write(whole))
      assert.equal(text, piece + end)
      assert.equal(line.fields['outcome'], 'ok')
    })

    test('that ends properly without its last line is a failure, with an error (141, 166)', async () => {
      const { answer, text, line } = await ask(path, (socket) =>
        socket.write(head(type) + chunk(piece) + lastChunk),
      )
      assert(text.startsWith(piece))
      assert.match(text, told)
      assert(!answer.endsWith(lastChunk), 'it must not look whole')
      assert.equal(line.fields['outcome'], 'upstream_error')
      assert.equal(line.fields['tokens_out'], 1)
    })

    test('that falls silent is cut, with an error (149, 166)', async () => {
      const { answer, text, line } = await ask(path, (socket) => socket.write(head(type) + chunk(piece)))
      assert.match(text, told)
      assert(!answer.endsWith(lastChunk))
      assert.equal(line.fields['outcome'], 'timeout')
    })

    test('that dies before its first byte fails over', async () => {
      const { text, line } = await ask(path, (socket) => socket.end(head(type) + lastChunk), whole)
      assert.equal(text, piece + end)
      assert.equal(line.fields['attempts'], 2)
    })

    test('that begins with an error fails over', async () => {
      const error = type.startsWith('text')
        ? data({ error: { message: 'out of memory' } })
        : '{"error":"out of memory"}\n'
      const { text, line } = await ask(
        path,
        (socket) => socket.write(head(type) + chunk(error) + lastChunk),
        whole,
      )
      assert.equal(text, piece + end)
      assert.equal(line.fields['attempts'], 2)
    })
  })
}

test("a node's own error line reaches the caller once, as it is, and then the connection is cut", async () => {
  const [native] = dialects
  const error = '{"error":"an error was encountered while running the model"}\n'
  const { answer, text, line, asked } = await ask(
    '/api/chat',
    (socket) =>
      socket.write(head('application/x-ndjson') + chunk(native?.piece ?? '') + chunk(error) + lastChunk),
    'HTTP/1.1 500 x\r\n\r\n',
  )
  assert.equal(text, (native?.piece ?? '') + error)
  assert(!answer.endsWith(lastChunk))
  assert.equal(line.fields['outcome'], 'upstream_error')
  assert.equal(asked, 0, 'no other node is asked once the caller has a byte')
})

test('a malformed line in the middle passes unchanged, and is counted', async () => {
  const stream = '{"message":{"content":"a"},"done":false}\nwhat is this\n{"done":true}\n'
  const { text, line, malformed } = await ask('/api/chat', (socket) =>
    socket.write(head('application/x-ndjson') + chunk(stream) + lastChunk),
  )
  assert.equal(text, stream)
  assert.equal(line.fields['outcome'], 'ok')
  assert.equal(malformed, 1)
})

test('an OpenAI stream with a finish reason gets the missing [DONE]', async () => {
  const finish = data({ model: 'm', choices: [{ delta: {}, finish_reason: 'stop' }] })
  const { answer, text, line } = await ask('/v1/chat/completions', (socket) =>
    socket.write(head('text/event-stream') + chunk(finish) + lastChunk),
  )
  assert.equal(text, `${finish}data: [DONE]\n\n`)
  assert(answer.endsWith(lastChunk), 'it is whole')
  assert.equal(line.fields['outcome'], 'ok')
})

const wholeAnswer = rawAnswer(
  '{"message":{"content":"whole"},"done":true,"prompt_eval_count":3,"eval_count":4}',
)
const halfWays: readonly [name: string, serve: Serve][] = [
  ['sends less than its Content-Length', (socket) => socket.end(wholeAnswer.slice(0, -10))],
  [
    'resets in the middle',
    (socket) => socket.write(wholeAnswer.slice(0, -10), () => setTimeout(() => socket.resetAndDestroy(), 20)),
  ],
  ['falls silent in the middle', (socket) => socket.write(wholeAnswer.slice(0, -10))],
  [
    'ends a generation before it is done',
    (socket) => socket.write(rawAnswer('{"message":{"content":"ha"},"done":false}')),
  ],
  ['answers with nothing', (socket) => socket.write(rawAnswer(''))],
  ['answers with half an object', (socket) => socket.write(rawAnswer('{"message":{"cont'))],
  [
    'compresses its answer',
    (socket) => socket.write(rawAnswer('xx', { extra: 'Content-Encoding: gzip\r\n' })),
  ],
]

suite('an answer that is not streamed, of a node that', () => {
  for (const [name, serve] of halfWays) {
    test(`${name}, never gives an incomplete response, and another node answers (141)`, async () => {
      const alone = await ask('/api/chat', serve)
      assert.match(alone.answer, /^HTTP\/1\.1 50[24] [\s\S]*{"error":"[^"]+"}$/)
      const healed = await ask('/api/chat', serve, wholeAnswer)
      assert.match(healed.answer, /^HTTP\/1\.1 200 OK[\s\S]*"whole"/)
      assert.equal(healed.line.fields['attempts'], 2)
      assert.equal(healed.line.fields['tokens_out'], 4)
    })
  }

  test('sends more than is held, passes while it comes, and is cut when the node dies (168)', async () => {
    const large = `{"embeddings":"${'x'.repeat(3_000_000)}"}`
    const whole = await ask('/api/embed', (socket) => socket.write(rawAnswer(large)))
    assert(whole.answer.endsWith(large))
    const dying = await ask('/api/embed', (socket) => socket.end(rawAnswer(large).slice(0, -10)))
    assert.match(dying.answer, /^HTTP\/1\.1 200 OK/)
    assert.match(dying.answer, /content-length: 3000017/i)
    assert(!dying.answer.endsWith('}'), 'cut, not completed')
  })
})
