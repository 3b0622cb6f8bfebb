import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { rawAnswer } from '../support/wire.ts'
import {
  chat,
  get,
  post,
  refuses,
  startWireGateway,
  statuses,
  type WireCase,
  type WireGateway,
} from '../support/wire-gateway.ts'

const tags = (headers: string) => get('/api/tags', headers)
const badRequest = /^HTTP\/1.1 400 /

const refused: readonly WireCase[] = [
  { name: 'two Hosts (49)', bytes: tags('Host: x\r\nHost: y\r\n'), answer: badRequest },
  { name: 'no Host (49)', bytes: tags('A: b\r\n'), answer: badRequest },
  ...['a@b', 'a b', 'a:99999', 'a:b', '', 'a/b', '[::1'].map((host) => ({
    name: `the Host ${JSON.stringify(host)} (49)`,
    bytes: tags(`Host: ${host}\r\n`),
    answer: badRequest,
  })),
  { name: 'a target with a host of its own (50)', bytes: get('http://evil/api/tags'), answer: badRequest },
  {
    name: 'two keys in Authorization (51)',
    bytes: post('/api/chat', chat, 'Authorization: Bearer llm_a\r\nAuthorization: Bearer llm_b\r\n'),
    answer: badRequest,
  },
  {
    name: 'two keys in x-api-key (51)',
    bytes: post('/api/chat', chat, 'x-api-key: llm_a\r\nX-API-Key: llm_b\r\n'),
    answer: badRequest,
  },
  {
    name: 'two keys in two headers (51)',
    bytes: post('/api/chat', chat, 'Authorization: Bearer llm_a\r\nx-api-key: llm_b\r\n'),
    answer: badRequest,
  },
  {
    name: 'fifteen hundred headers (53)',
    bytes: tags(`Host: x\r\n${Array.from({ length: 1500 }, (_, n) => `H${n}: abcd\r\n`).join('')}`),
    answer: /^HTTP\/1.1 431 /,
  },
  {
    name: 'a compressed body, however small (57)',
    bytes: post('/api/chat', chat, 'Content-Encoding: gzip\r\n'),
    answer: /^HTTP\/1.1 415 /,
  },
  {
    name: 'a preflight, whose origin gets no leave (58)',
    bytes:
      'OPTIONS /api/chat HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n',
    answer: /^HTTP\/1.1 403 (?![\s\S]*access-control)/i,
  },
]

suite('of headers, refused are', () => refuses(refused))

/** Sends a chat with `headers`; resolves to the answer and the head that the node saw, its names in order. */
async function forwarded(wire: WireGateway, headers: string | Buffer) {
  const [before = '', after = ''] = post('/api/chat', chat, '\0').split('\0')
  const answer = await wire.send(
    Buffer.concat([Buffer.from(before), Buffer.from(headers), Buffer.from(after)]),
    /"done":true/,
  )
  const [head = ''] = wire.node.received.join('').split('\r\n\r\n')
  const names = head
    .split('\r\n')
    .slice(1)
    .map((line) => line.split(':')[0]?.toLowerCase())
  return { answer, head, names: names.sort() }
}

suite('the headers of a request', () => {
  const ours = ['connection', 'content-length', 'host', 'via', 'x-node-key', 'x-request-id']
  const stopped: readonly [what: string, headers: string][] = [
    [
      'credentials and cookies (37, 59)',
      'Authorization: Bearer other\r\nCookie: c=1\r\nx-api-key: other\r\n',
    ],
    [
      'those of one connection (44)',
      'Keep-Alive: timeout=9\r\nTE: trailers\r\nTrailer: X\r\nProxy-Authorization: x\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n',
    ],
    [
      'those named in Connection, ours excepted (43)',
      'Connection: close, X-Request-Id, Content-Length, X-Node-Key, Host\r\n',
    ],
    [
      'a forged origin of the request (46)',
      'X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-SSL-Client-CN: admin\r\n',
    ],
    [
      'names that mean something to JavaScript (52)',
      '__proto__: x\r\nconstructor: y\r\nhasOwnProperty: z\r\n',
    ],
    [
      'conditions and encodings (55)',
      'Accept-Encoding: br;q=x, *\r\nRange: bytes=0-1\r\nIf-None-Match: *\r\n',
    ],
    ['an origin (58)', 'Origin: http://localhost\r\nReferer: http://evil.example/\r\n'],
    ['nine hundred of them (53)', Array.from({ length: 900 }, (_, n) => `H${n}: abc\r\n`).join('')],
  ]
  for (const [what, headers] of stopped) {
    test(`that stop here: ${what}`, async () => {
      const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken('llm_valid') })]])
      await using wire = await startWireGateway({ keys, nodeHeaders: { 'X-Node-Key': 'k' } })
      const bearer = /authorization/i.test(headers) ? '' : 'Authorization: Bearer llm_valid\r\n'
      const { answer, head, names } = await forwarded(wire, headers + bearer)
      assert.match(answer, /^HTTP\/1.1 200 OK/)
      assert.deepEqual(names, ours)
      assert.match(head, new RegExp(`^POST /api/chat HTTP/1.1\r\n[\\s\\S]*host: 127.0.0.1:${wire.node.port}`))
      assert(!/6\.6\.6\.6/.test(JSON.stringify(wire.gateway.lines)), 'the log believes the caller')
      await wire.assertWell()
    })
  }

  test('are checked as received, also those that Connection names (43)', async () => {
    const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken('llm_valid') })]])
    await using wire = await startWireGateway({ keys, loopback: false })
    const named = 'Connection: close, Authorization, X-Api-Key\r\n'
    const answers = [
      await wire.send(post('/api/chat', chat, `${named}Authorization: Bearer llm_valid\r\n`)),
      await wire.send(post('/api/chat', chat, `${named}Authorization: Bearer llm_wrong\r\n`)),
    ]
    assert.deepEqual(answers.flatMap(statuses), ['200', '401'])
    await wire.assertWell()
  })

  const ids: readonly [what: string, id: string, passes: boolean][] = [
    ['a plain one', 'my-request.42_X', true],
    ['a short one', 'x', false],
    ['one of 10 KB', 'x'.repeat(10_000), false],
    ['a path', '../../etc/passwd', false],
    ['colours for a terminal', '\u001b[31mred-alert', false],
  ]
  for (const [what, id, passes] of ids) {
    test(`may carry an id if it is harmless, and ${what} is ${passes ? 'kept' : 'replaced'} (48)`, async () => {
      await using wire = await startWireGateway()
      const { answer, head } = await forwarded(wire, `X-Request-Id: ${id}\r\n`)
      // Node's parser refuses the escape by itself.
      if (statuses(answer)[0] === '200') {
        assert.equal(/x-request-id: (.+)\r\n/.exec(answer)?.[1] === id, passes)
        assert.match(head, /x-request-id: [0-9a-f-]{36}/, 'the node gets ours, which is unique')
      } else assert.match(answer, badRequest)
      assert(passes || !JSON.stringify(wire.gateway.lines).includes(JSON.stringify(id).slice(1, -1)))
      await wire.assertWell()
    })
  }

  for (const [what, value] of [
    ['Latin-1', Buffer.from('caf\u00e9', 'latin1')],
    ['UTF-8', Buffer.from('日本語')],
    ['a delete character', Buffer.from('a\u007fb')],
    ['a tab', Buffer.from('a\tb')],
  ] as const) {
    test(`with ${what} are passed on or refused, and count against no node (54)`, async () => {
      await using wire = await startWireGateway()
      const headers = ['User-Agent: ', 'Accept: ', 'Traceparent: '].map((name) =>
        Buffer.concat([Buffer.from(name), value, Buffer.from('\r\n')]),
      )
      const { answer } = await forwarded(wire, Buffer.concat(headers))
      assert.match(answer, /^HTTP\/1.1 (200|400) /)
      if (statuses(answer)[0] === '200')
        assert(wire.node.received.join('').includes(value.toString('latin1')))
      await wire.assertWell()
    })
  }

  for (const [what, type] of [
    ['missing', ''],
    ['text', 'Content-Type: text/plain\r\n'],
    ["curl's own", 'Content-Type: application/x-www-form-urlencoded\r\n'],
    ['in UTF-16', 'Content-Type: application/json; charset=utf-16\r\n'],
  ] as const) {
    test(`do not decide what the body is: with a Content-Type ${what} JSON is JSON, as for Ollama (56)`, async () => {
      await using wire = await startWireGateway()
      const { answer } = await forwarded(wire, type)
      assert.match(answer, /^HTTP\/1.1 200 OK/)
      await wire.assertWell()
    })
  }
})

suite('the headers of an answer', () => {
  test('contain no hop-by-hop headers of the node, and set no cookies (45, 59)', async () => {
    const extra =
      'Connection: close\r\nKeep-Alive: timeout=1\r\nSet-Cookie: a=b\r\nTrailer: X\r\nServer: s\r\n'
    await using wire = await startWireGateway({
      serve: (socket) => socket.write(rawAnswer('{"done":true}', { extra })),
    })
    const { answer } = await forwarded(wire, 'X: y\r\n')
    assert.match(answer, /^HTTP\/1.1 200 OK[\s\S]*x-llamero-node: a\r\n/)
    assert(!/set-cookie|timeout=1|connection: close|trailer|server:/i.test(answer), answer)
    await wire.assertWell()
  })

  test('allow no page to read it, whatever headers the node sends (58)', async () => {
    await using wire = await startWireGateway({
      serve: (socket) =>
        socket.write(rawAnswer('{"done":true}', { extra: 'Access-Control-Allow-Origin: *\r\n' })),
    })
    const { answer } = await forwarded(wire, '')
    assert(!/access-control/i.test(answer), answer)
    for (const origin of ['http://evil.example', 'null']) {
      const refused = await wire.send(post('/api/chat', chat, `Origin: ${origin}\r\n`))
      assert.match(refused, /^HTTP\/1.1 403 (?![\s\S]*access-control)/i)
    }
    assert.equal(wire.node.received.join('').split('POST ').length, 2, 'the node was asked once')
    await wire.assertWell()
  })
})

suite('words that mean something to JavaScript', () => {
  const bodies = [
    '{"model":"__proto__"}',
    '{"model":"constructor"}',
    '{"model":"m","__proto__":{"x":1},"constructor":2}',
  ]
  for (const body of bodies) {
    test(`are plain words in ${body} (52)`, async () => {
      await using wire = await startWireGateway()
      const answer = await wire.send(post('/api/chat?__proto__=x&constructor=y', body), /\r\n\r\n./)
      assert.match(answer, body.includes('"m"') ? /^HTTP\/1.1 200 / : /^HTTP\/1.1 404 /)
      assert.equal(({} as Record<string, unknown>)['x'], undefined)
      await wire.assertWell()
    })
  }

  test('are plain words in a key (52)', async () => {
    await using wire = await startWireGateway({ loopback: false })
    for (const key of ['__proto__', 'constructor', 'llm_toString']) {
      assert.match(await wire.send(post('/api/chat', chat, `x-api-key: ${key}\r\n`)), /^HTTP\/1.1 401 /)
    }
    await wire.assertWell()
  })
})
