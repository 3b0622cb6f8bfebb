import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { exchangeBytes } from '../support/wire.ts'
import { post, startWireGateway } from '../support/wire-gateway.ts'

const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const headOf = (type: string) =>
  `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`

/** The stream of each API, and its errors. */
const dialects = [
  {
    path: '/api/chat',
    body: '{"model":"m","messages":[]}',
    type: 'application/x-ndjson',
    event: `${JSON.stringify({ message: { content: 'x' }, done: false })}\n`,
  },
  {
    path: '/v1/chat/completions',
    body: '{"model":"m","messages":[],"stream":true}',
    type: 'text/event-stream',
    event: `data: ${JSON.stringify({ choices: [{ delta: { content: 'x' }, finish_reason: null }] })}\n\n`,
  },
  {
    path: '/v1/messages',
    body: '{"model":"m","max_tokens":5,"messages":[],"stream":true}',
    type: 'text/event-stream',
    event: `event: content_block_delta\ndata: ${JSON.stringify({ type: 'content_block_delta', delta: { type: 'text_delta', text: 'x' } })}\n\n`,
  },
]
const ends: readonly (readonly [name: string, end: (socket: Socket) => void, told: RegExp])[] = [
  [
    'broke off',
    (socket) => socket.destroy(),
    /the connection broke in the middle of the answer, so the answer is incomplete; send the request again/,
  ],
  [
    'stood still',
    () => {},
    /it stopped in the middle of the answer, so the answer is incomplete; send the request again/,
  ],
  [
    'ended too early',
    (socket) => void socket.write('0\r\n\r\n'),
    /the answer ended before it was complete; send the request again/,
  ],
]
/** Metric labels, which must not reach a caller. */
const labels = /broken-off|truncated|stalled|unreachable|stale-socket|bad-response|first-token|error-line/

suite('a caller is told in a sentence what to do', () => {
  for (const { path, body, type, event } of dialects)
    for (const [name, end, told] of ends)
      test(`when a stream of ${path} ${name} (370)`, async () => {
        await using wire = await startWireGateway({
          serve: (socket) => {
            socket.write(headOf(type) + chunk(event))
            setTimeout(() => end(socket), 20)
          },
          config: { timeouts: { between_tokens: '200ms' } },
        })
        const answer = await exchangeBytes(wire.gateway.port, post(path, body, 'Connection: close\r\n'))
        assert.match(answer, told)
        assert.doesNotMatch(answer, labels)
      })

  const wholes: readonly (readonly [
    name: string,
    serve: (socket: Socket) => void,
    status: number,
    told: RegExp,
  ])[] = [
    [
      'resets the connection',
      (socket) => socket.resetAndDestroy(),
      502,
      /it closed the connection before it answered/,
    ],
    ['is silent', () => {}, 504, /it did not begin to answer within the time limit; send the request again/],
    [
      'speaks another protocol',
      (socket) => void socket.write('SSH-2.0-OpenSSH\r\n'),
      502,
      /not an answer of Ollama/,
    ],
    [
      'stands still',
      (socket) =>
        void socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{`),
      504,
      /it stopped in the middle of the answer/,
    ],
    [
      'ends too early',
      (socket) =>
        void socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{'),
      502,
      /the answer ended before it was complete; send the request again/,
    ],
  ]
  for (const [name, serve, status, told] of wholes)
    test(`when a node ${name} (370)`, async () => {
      const quick = { between_tokens: '150ms', first_token: '150ms', whole_answer: '150ms' }
      await using wire = await startWireGateway({ serve, config: { timeouts: quick } })
      const body = '{"model":"m","stream":false,"messages":[]}'
      const answer = await exchangeBytes(wire.gateway.port, post('/api/chat', body, 'Connection: close\r\n'))
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `))
      assert.match(answer, told)
      assert.doesNotMatch(answer, labels)
    })
})
