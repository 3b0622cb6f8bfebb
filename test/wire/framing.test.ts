import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { suite, test } from 'node:test'
import { eventually, rawAnswer } from '../support/wire.ts'
import {
  chat,
  chatChunks,
  get,
  post,
  postChunks,
  refuses,
  startWireGateway,
  statuses,
  type WireCase,
} from '../support/wire-gateway.ts'

const length = chat.length
const hex = length.toString(16)
const withLength = (lines: string) => `POST /api/chat HTTP/1.1\r\nHost: x\r\n${lines}\r\n\r\n${chat}`
const withEncoding = (lines: string) => `POST /api/chat HTTP/1.1\r\nHost: x\r\n${lines}\r\n\r\n${chatChunks}`
const withHead = (lines: string) => `GET /api/tags HTTP/1.1\r\nHost: x\r\n${lines}\r\n\r\n`
/** A body that is itself a request, for a parser that loses count. */
const smuggled = `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${chat}`
const smuggling = (method: string, path: string) =>
  `${method} ${path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`

const badRequest = /^HTTP\/1.1 400 /
const refused: readonly WireCase[] = [
  {
    name: 'Content-Length before Transfer-Encoding (20)',
    bytes: withEncoding(`Content-Length: ${length}\r\nTransfer-Encoding: chunked`),
    answer: badRequest,
  },
  {
    name: 'Transfer-Encoding before Content-Length (20)',
    bytes: withEncoding(`Transfer-Encoding: chunked\r\nContent-Length: ${length}`),
    answer: badRequest,
  },
  ...[
    ['two lengths that differ', `Content-Length: ${length}\r\nContent-Length: ${length + 1}`],
    ['two equal lengths', `Content-Length: ${length}\r\nContent-Length: ${length}`],
    ['a list of lengths', `Content-Length: ${length}, ${length}`],
    ['an empty length', 'Content-Length:'],
    ['a length with a sign', `Content-Length: +${length}`],
    ['a negative length', 'Content-Length: -1'],
    ['a length in hex', `Content-Length: 0x${hex}`],
    ['a length of 2^64', 'Content-Length: 18446744073709551616'],
  ].map(([what, lines]) => ({ name: `${what} (21)`, bytes: withLength(lines ?? ''), answer: badRequest })),
  ...[
    ['an unknown encoding (22)', 'Transfer-Encoding: xchunked'],
    ['chunked and another (23)', 'Transfer-Encoding: chunked, identity'],
    ['identity (23)', 'Transfer-Encoding: identity'],
    ['two encodings (23)', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity'],
    ['chunked twice (23)', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
    ['a blank before the colon (23)', 'Transfer-Encoding : chunked'],
  ].map(([what, lines]) => ({
    name: `Transfer-Encoding with ${what}`,
    bytes: withEncoding(lines ?? ''),
    answer: badRequest,
  })),
  {
    name: 'a chunk extension of 20 KB (25)',
    bytes: postChunks('/api/chat', `${hex};${'x'.repeat(20_000)}\r\n${chat}\r\n0\r\n\r\n`),
    answer: /^HTTP\/1.1 413 /,
  },
  ...[
    ['beyond 64 bits', `${'f'.repeat(17)}\r\n${chat}\r\n0\r\n\r\n`],
    ['with 0x', `0x${hex}\r\n${chat}\r\n0\r\n\r\n`],
    ['below zero', `-5\r\n${chat}\r\n0\r\n\r\n`],
    ['of no digits', `zz\r\n${chat}\r\n0\r\n\r\n`],
    ['on a line of LF only', `${hex}\n${chat}\r\n0\r\n\r\n`],
    ['without CRLF after its bytes', `${hex}\r\n${chat}0\r\n\r\n`],
  ].map(([what, chunks]) => ({
    name: `a chunk size ${what} (26)`,
    bytes: postChunks('/api/chat', chunks ?? ''),
    answer: badRequest,
  })),
  {
    name: 'a trailer that names a length (28)',
    bytes: postChunks('/api/chat', `${hex}\r\n${chat}\r\n0\r\nContent-Length: 1\r\n\r\n`),
    answer: badRequest,
  },
  {
    name: 'a request hidden in the body of DELETE (29)',
    bytes: smuggling('DELETE', '/api/delete'),
    answer: /^HTTP\/1.1 403 /,
  },
  {
    name: 'a request hidden in the body of OPTIONS (30)',
    bytes: smuggling('OPTIONS', '/api/chat'),
    answer: /^HTTP\/1.1 405 /,
  },
  {
    name: 'a body of GET on a route of POST (31)',
    bytes: smuggling('GET', '/api/chat'),
    answer: /^HTTP\/1.1 405 /,
  },
  {
    name: 'a body of HEAD on a route of POST (31)',
    bytes: smuggling('HEAD', '/api/chat'),
    answer: /^HTTP\/1.1 405 /,
  },
  ...[
    ['a bare LF', `GET /api/tags HTTP/1.1\nHost: x\n\n`],
    ['a bare CR in a value', withHead('A: b\rc')],
    ['a folded line', withHead('A: b\r\n c')],
    ['NUL', withHead('A: b\0c')],
    ['an empty name', withHead(': b')],
    ['a blank before the first header', 'GET /api/tags HTTP/1.1\r\n Host: x\r\n\r\n'],
  ].map(([what, bytes]) => ({ name: `a head with ${what} (34)`, bytes: bytes ?? '', answer: badRequest })),
  {
    name: 'a bad key, before the body is asked for (38)',
    bytes: `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nExpect: 100-continue\r\nAuthorization: Bearer llm_wrong\r\n\r\n`,
    answer: /^HTTP\/1.1 401 [\s\S]*connection: close\r\n/i,
  },
  {
    name: 'an unknown expectation (39)',
    bytes: post('/api/chat', chat, 'Expect: something\r\n'),
    answer: /^HTTP\/1.1 417 /,
  },
  {
    name: 'an upgrade to websocket (41)',
    bytes: get('/api/tags', 'Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n'),
    answer: /^HTTP\/1.1 400 /,
  },
]

suite('of framings, refused are', () => refuses(refused))

suite('a body', () => {
  const reaching: readonly [name: string, bytes: string][] = [
    ['whose length has leading zeros (21)', withLength(`Content-Length: 00${length}`)],
    ['in chunks, announced behind a tab (24)', withEncoding('Transfer-Encoding:\tchunked')],
    ['in chunks with extensions (25)', postChunks('/api/chat', `${hex};a=1;b="2"\r\n${chat}\r\n0\r\n\r\n`)],
    [
      'with trailers that look like headers (28)',
      postChunks('/api/chat', `${hex}\r\n${chat}\r\n0\r\nAuthorization: x\r\nHost: y\r\n\r\n`),
    ],
    [
      'in chunks of a byte each (24, 25)',
      postChunks('/api/chat', `${[...chat].map((byte) => `1\r\n${byte}\r\n`).join('')}0\r\n\r\n`),
    ],
  ]
  for (const [name, bytes] of reaching) {
    test(`${name} reaches the node in one clean frame`, async () => {
      await using wire = await startWireGateway()
      assert.match(await wire.send(bytes, /"done":true/), /^HTTP\/1.1 200 OK/)
      const [head = '', body] = wire.node.received.join('').split('\r\n\r\n')
      assert.deepEqual(head.match(/^content-length: .*$/gim), [`content-length: ${length}`])
      assert.deepEqual(head.match(/^(transfer-encoding|authorization|host: y).*$/gim), null)
      assert.equal(body, chat)
      await wire.assertWell()
    })
  }

  test('that stops in the middle times out, and no node gets it (27)', async () => {
    await using wire = await startWireGateway()
    // The limit of the listener is a minute; it is set on the server of the first request.
    const hurry = (message: unknown) => {
      Object.assign((message as { server: Server }).server, { requestTimeout: 500, headersTimeout: 500 })
    }
    subscribe('http.server.request.start', hurry)
    await wire.assertWell()
    unsubscribe('http.server.request.start', hurry)
    const { promise: answer, resolve } = Promise.withResolvers<string>()
    const caller = connect(wire.gateway.port, '127.0.0.1', () =>
      caller.write(postChunks('/api/chat', '5\r\n{"mod')),
    )
    let received = ''
    caller.setEncoding('latin1').on('data', (text) => (received += text))
    caller.on('close', () => resolve(received))
    assert.match(await answer, /^HTTP\/1.1 408 Request Timeout\r\n/)
    assert.deepEqual(wire.node.received, [])
    await wire.assertWell()
  })

  test('of a caller that leaves in the middle reaches no node, and counts against none (32)', async () => {
    await using wire = await startWireGateway()
    const caller = connect(wire.gateway.port, '127.0.0.1', () =>
      caller.write(`POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n${chat}`, () =>
        caller.end(),
      ),
    )
    caller.on('error', () => {}).resume()
    await eventually(() => wire.gateway.lines.length > 0, 'the request is logged')
    assert.match(String(wire.gateway.lines[0]?.fields['status']), /^4(00|99)$/)
    assert.deepEqual(wire.node.received, [])
    await wire.assertWell()
  })

  test('longer than its length is followed by bytes that must be a separate request (33)', async () => {
    await using wire = await startWireGateway()
    const tooLong = `${post('/api/chat', chat)}${get('/api/version', 'Host: x\r\nAuthorization: Bearer llm_wrong\r\n')}garbage`
    const answers = statuses(await wire.send(`${tooLong}\r\n\r\n`))
    // Bytes of one packet are read at once: the end of the connection may overtake earlier responses.
    assert.deepEqual(answers, ['200', '401', '400'].slice(-answers.length))
    assert.equal(wire.node.received.join('').split('POST ').length - 1 <= 1, true)
    await wire.assertWell()
  })

  test('of GET is skipped, and the next request is read from its beginning (31)', async () => {
    await using wire = await startWireGateway()
    const answers = await wire.send(smuggling('GET', '/api/version') + get('/nothing'))
    assert.deepEqual(statuses(answers), ['200', '404'])
    assert.deepEqual(wire.node.received, [])
    await wire.assertWell()
  })

  test('that is still coming when the node responds does not fail the request (36)', async () => {
    const answered: string[] = []
    await using wire = await startWireGateway({
      serve: (socket, _bytes, nth) => {
        if (nth > 0) return
        answered.push('')
        socket.pause()
        socket.write(rawAnswer('{"error":"early"}', { status: '400 Bad Request' }))
      },
    })
    const body = `{"model":"m","x":"${'x'.repeat(16_000_000)}"}`
    assert.match(await wire.send(post('/api/chat', body), /early/), /^HTTP\/1.1 400 Bad Request[\s\S]*early/)
    assert.match(await wire.send(post('/api/chat', chat), /early/), /^HTTP\/1.1 400 Bad Request/)
    assert.equal(answered.length, 2, 'the half-written socket was used again')
    await wire.assertWell()
  })

  test('with Expect gets one 100 Continue, and its credentials are not forwarded (37)', async () => {
    await using wire = await startWireGateway()
    const body = `{"model":"m","x":"${'x'.repeat(2_000_000)}"}`
    const request = post('/api/chat', body, 'Expect: 100-continue\r\nAuthorization: Bearer secret\r\n')
    const [head = ''] = request.split('\r\n\r\n')
    const { promise: answer, resolve } = Promise.withResolvers<string>()
    let received = ''
    const caller = connect(wire.gateway.port, '127.0.0.1', () => caller.write(`${head}\r\n\r\n`))
    caller.setEncoding('latin1').on('data', (text: string) => {
      if (received === '') caller.write(body)
      received += text
      if (received.includes('"done":true')) caller.destroy()
    })
    caller.on('close', () => resolve(received))
    assert.match(await answer, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/)
    assert(!/secret|expect/i.test(wire.node.received.join('').slice(0, 1000)))
    await wire.assertWell()
  })

  test('with an offer of HTTP/2 is served in HTTP/1.1, and the offer is not forwarded (40)', async () => {
    await using wire = await startWireGateway()
    const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n'
    assert.match(await wire.send(post('/api/chat', chat, offer), /"done":true/), /^HTTP\/1.1 200 OK/)
    assert(!/upgrade|http2/i.test(wire.node.received.join('')))
    await wire.assertWell()
  })
})
