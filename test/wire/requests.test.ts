import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { exchangeBytes, type RawNode, rawAnswer, startRawNode } from '../support/wire.ts'

const chat = '{"model":"m","stream":false,"messages":[]}'
const post = (path: string, body: string, headers = '', version = '1.1') =>
  `POST ${path} HTTP/${version}\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`
const get = (target: string, headers = 'Host: x\r\n', version = 'HTTP/1.1') =>
  `GET ${target} ${version}\r\n${headers}\r\n`

/** Bytes in -> status out; none of them may reach a node. Numbers are the cases of sheet reliability-security.md C. */
const refused: readonly [name: string, bytes: string, status: RegExp][] = [
  ['1 HTTP/0.9', 'GET /\r\n\r\n', /505/],
  ['2 an invented version', get('/api/tags', 'Host: x\r\n', 'HTTP/2.0'), /505/],
  [
    '6 HTTP/1.0 with Transfer-Encoding',
    'POST /api/chat HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    /400/,
  ],
  ['7 the HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /400/],
  ['9 an unknown method', 'FOO / HTTP/1.1\r\nHost: x\r\n\r\n', /400/],
  ['10 TRACE', 'TRACE / HTTP/1.1\r\nHost: x\r\n\r\n', /405/],
  ['11 CONNECT', 'CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n', /^$/],
  ['12 OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n', /400/],
  ['13 a wrong method', get('/api/chat'), /405 [\s\S]*allow: POST/i],
  ['15 a long target', get(`/${'a'.repeat(9000)}`), /414/],
  ['15 a long head', get('/', `Host: x\r\nA: ${'a'.repeat(20_000)}\r\n`), /431/],
  ['16 a control byte in the target', get('/api\u0001'), /400/],
  [
    '20 Content-Length with Transfer-Encoding',
    `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    /400/,
  ],
  [
    '21 two lengths',
    `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde`,
    /400/,
  ],
  [
    '22 an odd Transfer-Encoding',
    'POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    /400/,
  ],
  [
    '26 a broken chunk',
    `POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
    /400/,
  ],
  [
    '29 DELETE with a second request in its body',
    `DELETE /api/delete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n24\r\nPOST /api/chat HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n`,
    /404/,
  ],
  ['39 an unknown expectation', post('/api/chat', chat, 'Expect: something\r\n'), /417/],
  ['41 an upgrade', get('/api/tags', 'Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n'), /200/],
  ['49 two Hosts', get('/api/tags', 'Host: x\r\nHost: y\r\n'), /400/],
  ['50 an absolute target', get('http://evil/api/tags'), /400/],
  [
    '51 two different keys',
    post('/api/chat', chat, 'Authorization: Bearer llm_a\r\nx-api-key: llm_b\r\n'),
    /400/,
  ],
  ['57 a compressed body', post('/api/chat', chat, 'Content-Encoding: gzip\r\n'), /415/],
  ['60 no body', post('/api/chat', ''), /400 [\s\S]*missing request body/],
  ['60 a body that is no object', post('/api/chat', '[]'), /400/],
  ['61 a truncated body', post('/api/chat', '{"model":"m"'), /400/],
  ['64 two models', post('/api/chat', '{"model":"m","model":"n"}'), /400/],
  ['66 a model with a path', post('/api/chat', '{"model":"../../x"}'), /400/],
  ['70 a body over the limit', post('/api/chat', `{"model":"m","x":"${'x'.repeat(70_000)}"}`), /413/],
  [
    '70 a body over the limit, in chunks',
    `POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n${'x'.repeat(70_000)}\r\n0\r\n\r\n`,
    /413/,
  ],
  ['76 a doubled slash', post('//api//chat', chat), /404/],
  ['77 a climbing path', post('/api/../api/chat', chat), /404/],
  ['77 a hidden climb', post('/api/%2e%2e/api/chat', chat), /404/],
  ['78 an encoded slash', post('/api%2fchat', chat), /404/],
  ['79 a path in disguise', post('/api/chat/', chat), /404/],
  ['79 upper case', post('/API/CHAT', chat), /404/],
  ['79 a matrix parameter', post('/api/chat;x=1', chat), /404/],
  ['81 an unreadable target', get('http://[::1'), /400/],
  ['82 management', post('/api/pull', chat), /404/],
  ['84 an admin path', get('/admin/v1/status'), /404/],
]

suite('what the public port refuses', () => {
  let node: RawNode
  let gateway: Awaited<ReturnType<typeof startGateway>>
  before(async () => {
    node = await startRawNode((socket) => socket.write(rawAnswer('{"done":true}')))
    gateway = await startGateway(
      aSnapshot({ nodes: [{ name: 'a', url: node.url }], config: { limits: { body_bytes: 65_536 } } }),
    )
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await node[Symbol.asyncDispose]()
  })

  for (const [name, bytes, status] of refused) {
    test(name, async () => {
      assert.match(await exchangeBytes(gateway.port, bytes, status), status)
      assert.deepEqual(node.received, [], 'a node saw bytes of a refused request')
    })
  }

  test('and it still serves afterwards', async () => {
    assert.match(
      await exchangeBytes(gateway.port, post('/api/chat', chat, 'Connection: close\r\n')),
      /200 OK/,
    )
  })
})

suite('what reaches a node', () => {
  const forwardedFor = async (bytes: string) => {
    await using node = await startRawNode((socket) =>
      socket.write(
        rawAnswer('{"done":true}', {
          extra: 'Connection: close\r\nSet-Cookie: a=b\r\nKeep-Alive: timeout=1\r\n',
        }),
      ),
    )
    await using gateway = await startGateway(
      aSnapshot({ nodes: [{ name: 'a', url: node.url, headers: { 'X-Node-Key': 'k' } }] }),
    )
    const answer = await exchangeBytes(gateway.port, bytes)
    return { answer, seen: node.received.join(''), host: node.url.slice('http://'.length) }
  }

  test('is built by us: no credential, no hop-by-hop header, no forged origin, our Host (cases 37, 43, 44, 46, 58, 59)', async () => {
    const headers = [
      'Authorization: Bearer not-ours',
      'Cookie: c=1',
      'Origin: http://evil',
      'X-Forwarded-For: 6.6.6.6',
      'Forwarded: for=6.6.6.6',
      'TE: trailers',
      'Trailer: X',
      'Keep-Alive: timeout=9',
      'Proxy-Authorization: x',
      'Connection: X-Request-Id',
      'Expect: 100-continue',
      'User-Agent: test/1',
    ]
    const { seen, host } = await forwardedFor(
      post('/api/chat?api_key=secret', chat, `${headers.join('\r\n')}\r\n`),
    )
    const [head = '', body] = seen.split('\r\n\r\n')
    const names = head
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(':')[0]?.toLowerCase())
      .sort()
    assert.deepEqual(names, [
      'connection',
      'content-length',
      'host',
      'user-agent',
      'x-node-key',
      'x-request-id',
    ])
    assert.match(head, new RegExp(`^POST /api/chat HTTP/1.1\r\n[\\s\\S]*host: ${host}`))
    assert.equal(body, chat)
  })

  test('is framed once and cleanly, however it came (cases 21, 24, 25, 28)', async () => {
    const chunked = `POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\tchunked\r\n\r\n${chat.length.toString(16)};ext=1\r\n${chat}\r\n0\r\nAuthorization: x\r\n\r\n`
    const { seen } = await forwardedFor(chunked)
    assert.match(seen, new RegExp(`content-length: ${chat.length}\r\n`))
    assert(!/transfer-encoding|authorization/i.test(seen))
  })

  test("the node's own hop-by-hop headers and cookies stop here (cases 45, 59)", async () => {
    const { answer } = await forwardedFor(post('/api/chat', chat))
    assert.match(answer, /^HTTP\/1.1 200 OK/)
    assert(!/set-cookie|timeout=1/i.test(answer), answer)
    assert.match(answer, /x-llamero-node: a\r\n/)
  })

  test('an expectation is met after authentication, with one 100 (case 37)', async () => {
    const { answer } = await forwardedFor(post('/api/chat', chat, 'Expect: 100-continue\r\n'))
    assert.match(answer, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/)
  })

  test('a bad key is refused before the body is asked for (case 38)', async () => {
    const { answer, seen } = await forwardedFor(
      `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nExpect: 100-continue\r\nAuthorization: Bearer llm_wrong\r\n\r\n`,
    )
    assert.match(answer, /^HTTP\/1.1 401/)
    assert.equal(seen, '')
  })

  test('pipelined requests are answered in order (case 18)', async () => {
    const { answer } = await forwardedFor(post('/api/chat', chat) + get('/api/version') + get('/nothing'))
    assert.deepEqual(
      [...answer.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status),
      ['200', '200', '404'],
    )
  })
})
