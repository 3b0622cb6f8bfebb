import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aSnapshot } from '../support/fleet.ts'
import { eventually, rawAnswer } from '../support/wire.ts'
import { chat, post, startWireGateway, statuses } from '../support/wire-gateway.ts'

const request = post('/api/chat', '{"model":"m","messages":[]}', 'Connection: close\r\n')
const ndjson = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const line = (content: string) => `${JSON.stringify({ message: { content }, done: false })}\n`
const done = `${JSON.stringify({ message: { content: '' }, done: true })}\n`

/** Calls `beat` every `ms` until it or the socket ends. */
function every(socket: Socket, ms: number, beat: () => void): void {
  const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : beat()), ms)
  socket.once('close', () => clearInterval(timer))
}

suite('a node that answers oddly', () => {
  for (const status of ['204 No Content', '304 Not Modified']) {
    test(`with a body under ${status} passes none of it to this caller or the next (144)`, async () => {
      await using wire = await startWireGateway({
        serve: (socket) =>
          socket.write(rawAnswer('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison', { status })),
      })
      for (let n = 0; n < 3; n++) {
        const answer = await wire.send(request)
        assert.match(answer, /^HTTP\/1.1 (204 No Content|502 Bad Gateway)\r\n/)
        assert(!answer.includes('poison'))
      }
      assert.equal(wire.node.received.length, 3, 'a socket with stray bytes was used again')
      await wire.assertWell()
    })
  }

  for (const number of ['1e999', '-1e999', '-5', '1e300', '0.5', '0'])
    for (const streams of [true, false])
      test(`with ${number} for every count and time, ${streams ? 'streamed' : 'whole'}, is passed on, and not counted`, async () => {
        const counts = ['prompt_eval_count', 'prompt_eval_cached_count', 'eval_count']
        const times = ['total', 'load', 'prompt_eval', 'eval'].map((name) => `${name}_duration`)
        const numbers = [...counts, ...times].map((name) => `"${name}":${number}`)
        const last = `{"message":{"content":"x"},"done":true,${numbers}}\n`
        await using wire = await startWireGateway({
          serve: (socket) =>
            socket.write(streams ? `${ndjson}${chunk(line('a'))}${chunk(last)}0\r\n\r\n` : rawAnswer(last)),
        })
        const body = `{"model":"m","messages":[],"stream":${streams}}`
        for (let nth = 0; nth < 3; nth++)
          assert.ok((await wire.send(post('/api/chat', body, 'Connection: close\r\n'))).includes(last))
        await wire.assertWell()
        const { registry } = wire.gateway.metrics
        assert.doesNotMatch(await registry.metrics(), / (NaN|[+-]?Inf|-.*)$/m)
        assert.doesNotMatch(JSON.stringify(wire.gateway.scheduler.learned()), /"mean":null/)
      })

  test('with a thousand interim responses is answered once (145)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(
          'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(1000) + rawAnswer('{"done":true}'),
        ),
    })
    const answer = await wire.send(request)
    assert.deepEqual(statuses(answer), ['200'])
    assert(!/link/i.test(answer))
    await wire.assertWell()
  })

  for (const status of ['100 Continue', '102 Processing', '103 Early Hints']) {
    test(`with ${status} for ever times out like a silent one (145)`, async () => {
      await using wire = await startWireGateway({
        config: { timeouts: { first_token: '300ms' }, routing: { attempts: 1 } },
        serve: (socket) => every(socket, 20, () => socket.write(`HTTP/1.1 ${status}\r\n\r\n`)),
      })
      assert.deepEqual(statuses(await wire.send(request, /\r\n\r\n./)), ['504'])
      await eventually(() => wire.node.closedAt[0] !== undefined, 'the node is hung up on')
      await wire.assertWell()
    })
  }

  for (const status of ['301 Moved Permanently', '307 Temporary Redirect', '308 Permanent Redirect']) {
    test(`with ${status} is not followed (146)`, async () => {
      await using wire = await startWireGateway()
      await using lure = await startWireGateway({
        serve: (socket) =>
          socket.write(
            `HTTP/1.1 ${status}\r\nLocation: ${wire.node.url}/api/chat\r\nContent-Length: 0\r\n\r\n`,
          ),
      })
      const answer = await lure.send(request)
      assert.match(answer, /^HTTP\/1.1 502 Bad Gateway\r\n/)
      assert(!/location/i.test(answer))
      assert.deepEqual(wire.node.received, [])
      await lure.assertWell()
    })
  }

  test('with an error under status 200 is a failure, and the error is sent with 502 (150)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) => socket.write(rawAnswer('{"error":"no such thing"}')),
    })
    assert.match(await wire.send(request), /^HTTP\/1.1 502 Bad Gateway\r\n[\s\S]*no such thing"\}$/)
    await wire.assertWell()
  })

  test('with an HTML page under status 500 gives a JSON error without the page, and is asked again (150, 321)', async () => {
    const page = '<html><body>Oops</body></html>'
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(rawAnswer(page, { status: '500 Internal Server Error', type: 'text/html' })),
    })
    for (let n = 0; n < 6; n++) {
      const answer = await wire.send(request)
      assert.match(answer, /^HTTP\/1.1 502 Bad Gateway\r\n[\s\S]*content-type: application\/json/)
      assert.match(answer, /\{"error":"[^"<]*a proxy in front of it says 500"\}$/)
    }
    await wire.assertWell()
  })

  test('with trailers does not pass them on (147)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(
          `${ndjson.replace('\r\n\r\n', '\r\nTrailer: X-Node-Secret\r\n\r\n')}${chunk(done)}0\r\nX-Node-Secret: 1\r\nSet-Cookie: a=b\r\n\r\n`,
        ),
    })
    const answer = await wire.send(request)
    assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*\r\n0\r\n\r\n$/)
    assert(!/trailer|secret|cookie/i.test(answer), answer)
    await wire.assertWell()
  })

  test('without end is ended by the limit of the whole request, with an error (148)', async () => {
    await using wire = await startWireGateway({
      config: { timeouts: { request: '1s' } },
      serve: (socket) => {
        socket.write(ndjson)
        every(socket, 5, () => socket.write(chunk(line('x'.repeat(1000)))))
      },
    })
    const answer = await wire.send(request)
    assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*\n{"error":"[^"]+"}\n/)
    assert(!answer.endsWith('0\r\n\r\n'), 'the answer looks whole')
    await wire.assertWell()
  })

  test('in slow pieces is served until the limit of the whole request (149)', async () => {
    await using wire = await startWireGateway({
      config: { timeouts: { between_tokens: '400ms', request: '1500ms' } },
      serve: (socket) => {
        socket.write(ndjson)
        every(socket, 100, () => socket.write(chunk(line('x'))))
      },
    })
    const startedAt = performance.now()
    const answer = await wire.send(request)
    assert(performance.now() - startedAt > 1000, 'the limit between two tokens struck, though they came')
    assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*{"error":"[^"]+"}/)
    await wire.assertWell()
  })

  test('in pieces slower than the limit between tokens times out (149)', async () => {
    await using wire = await startWireGateway({
      config: { timeouts: { between_tokens: '200ms', request: '5s' } },
      serve: (socket) => {
        socket.write(ndjson + chunk(line('one')))
        every(socket, 450, () => socket.write(chunk(line('two'))))
      },
    })
    const answer = await wire.send(request)
    assert.match(answer, /one[\s\S]*{"error":"[^"]+"}/)
    assert(!answer.includes('two'))
    await wire.assertWell()
  })

  test('with a date in another century is passed on byte for byte (159)', async () => {
    const body = '{"created_at":"1970-01-01T00:00:00+14:00","message":{"content":"x"},"done":true}'
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(rawAnswer(body, { extra: 'Date: Fri, 31 Dec 9999 23:59:59 GMT\r\nAge: -1\r\n' })),
    })
    const answer = await wire.send(request)
    assert(answer.includes(body) && !answer.includes('9999'))
    await wire.assertWell()
  })
})

suite('a node that changes under a request', () => {
  test('by leaving the fleet finishes its stream, and its socket is closed (157)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) => {
        socket.write(ndjson + chunk(line('one')))
        setTimeout(() => socket.write(`${chunk(done)}0\r\n\r\n`), 300)
      },
    })
    const answer = wire.send(request)
    await eventually(() => wire.node.received.join('').includes('"m"'), 'the node has the request')
    await sleep(50)
    const { snapshot } = wire
    const without = new Map([...snapshot.nodes].filter(([name]) => name !== 'a'))
    wire.gateway.current.swap({ ...snapshot, nodes: without })
    assert.match(await answer, /one[\s\S]*"done":true[\s\S]*\r\n0\r\n\r\n$/)
    await eventually(() => wire.node.closedAt[0] !== undefined, 'the socket to a node that left is closed')
    await wire.assertWell()
  })

  test('by failing its probes finishes its stream, and gets requests while there is no other node (154, 301)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) => {
        socket.write(ndjson + chunk(line('one')))
        setTimeout(() => socket.write(`${chunk(done)}0\r\n\r\n`), 300)
      },
    })
    const answer = wire.send(request)
    await eventually(() => wire.node.received.join('').includes('"m"'), 'the node has the request')
    wire.gateway.current.swap(aSnapshot({ nodes: [{ name: 'a', url: wire.node.url, health: 'down' }] }))
    for (const each of [await wire.send(request), await answer])
      assert.match(each, /one[\s\S]*"done":true[\s\S]*\r\n0\r\n\r\n$/)
    wire.gateway.current.swap(wire.snapshot)
    await wire.assertWell()
  })

  test('by another server behind its address is asked once, and its refusal is passed on (155)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(rawAnswer(`{"error":"model 'm' not found"}`, { status: '404 Not Found' })),
    })
    assert.match(
      await wire.send(post('/api/chat', chat), /not found/),
      /^HTTP\/1.1 404 [\s\S]*model 'm(:latest)?' not found/,
    )
    assert.equal(wire.gateway.upstreams.breakerState('a'), 'closed')
    await wire.assertWell()
  })
})
