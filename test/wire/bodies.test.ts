import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { suite, test } from 'node:test'
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib'
import { longestTurnMs } from '../support/cpu.ts'
import { eventually, rawAnswer } from '../support/wire.ts'
import {
  chat,
  post,
  postChunks,
  refuses,
  startWireGateway,
  statuses,
  type WireCase,
} from '../support/wire-gateway.ts'

const limit = 65_536
const bytes = (name: string, body: string | Buffer, answer = /^HTTP\/1.1 400 [\s\S]*{"error":/): WireCase => {
  const [before = '', after = ''] = post('/api/chat', body).split('\r\n\r\n', 2)
  return {
    name,
    bytes: Buffer.concat([Buffer.from(`${before}\r\n\r\n`), Buffer.from(after && body)]),
    answer,
  }
}
const model = (name: string) => JSON.stringify({ model: name })

const refused: readonly WireCase[] = [
  bytes('an empty one (60, 74)', '', /^HTTP\/1.1 400 [\s\S]*missing request body/),
  ...['null', '[]', '"x"', '5', ' '].map((body) => bytes(`${body} (60)`, body)),
  bytes('a truncated one (61)', '{"model":"m"'),
  bytes('one with garbage behind it (61)', `${chat} x`),
  bytes('two in one (61)', chat + chat),
  bytes('one behind a byte order mark (61)', `\ufeff${chat}`),
  bytes('one in UTF-16 (61)', Buffer.from(chat, 'utf16le')),
  bytes('NaN (61)', '{"model":"m","x":NaN}'),
  bytes('a comment (61)', '{"model":"m"/* x */}'),
  bytes('nesting of depth 65 (62)', `{"model":"m","x":${'['.repeat(64)}${']'.repeat(64)}}`),
  bytes('two models (64)', '{"model":"m","model":"forbidden"}'),
  bytes('two models, one of them disguised (65)', '{"model":"m","mod\\u0065l":"forbidden"}'),
  bytes('two models in two cases (65)', '{"model":"m","MODEL":"forbidden"}'),
  bytes('a model that only Go would find (65)', '{"Model":"m"}'),
  ...['1', 'null', '["m"]', '{}'].map((value) =>
    bytes(`a model that is ${value} (66)`, `{"model":${value}}`),
  ),
  ...[
    'x'.repeat(10_240),
    'm\u0000',
    'm\nm',
    '../m',
    '..%2fm',
    '%2e%2e/m',
    '\u202em',
    'registry.evil/x',
    'hf.co/..',
    '<script>',
  ].map((name) => bytes(`the model ${JSON.stringify(name.slice(0, 20))} (66)`, model(name))),
  bytes('one byte over the limit (70)', chat.padEnd(limit + 1), /^HTTP\/1.1 413 /),
  {
    name: 'one byte over the limit, in chunks (70)',
    bytes: postChunks('/api/chat', `${(limit + 1).toString(16)}\r\n${chat.padEnd(limit + 1)}\r\n0\r\n\r\n`),
    answer: /^HTTP\/1.1 413 /,
  },
  ...['/api/pull', '/api/create', '/api/copy', '/api/show'].map((path) => ({
    name: `one of ${path} that is announced with more than that can be (345)`,
    bytes: `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n`,
    answer: /^HTTP\/1.1 (?:413|403) /,
  })),
  bytes('a form (75)', 'model=m&prompt=x'),
  bytes('a multipart form (75)', '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'),
]

suite('of bodies, refused are', () => refuses(refused, { config: { limits: { body_bytes: limit } } }))

/** Sends a chat and resolves to the status and the body that the node received. */
async function forwarded(body: Buffer, config = {}) {
  let received = Buffer.alloc(0)
  await using wire = await startWireGateway({
    config,
    serve: (socket, text) => {
      received = Buffer.concat([received, Buffer.from(text, 'latin1')])
      const head = received.indexOf('\r\n\r\n') + 4
      if (received.length - head >= body.length) socket.write(rawAnswer('{"done":true}'))
    },
  })
  const head = `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`
  const answer = await wire.send(Buffer.concat([Buffer.from(head), body]), /\r\n\r\n./)
  await wire.assertWell()
  return { status: statuses(answer)[0], received: received.subarray(received.indexOf('\r\n\r\n') + 4) }
}

suite('a body', () => {
  for (const name of ['m', 'M', 'm:latest', 'library/m', '\\u006d']) {
    test(`is served for the model in any spelling: ${name} (65, 67)`, async () => {
      const body = Buffer.from(`{"mod\\u0065l":"${name}","messages":[]}`)
      const { status, received } = await forwarded(body)
      assert.equal(status, '200')
      assert.deepEqual(received, body)
    })
  }

  const exact: readonly [what: string, body: Buffer][] = [
    ['a lone surrogate (68)', Buffer.from('{"model":"m","prompt":"\\ud800 x"}')],
    [
      'bytes that are no UTF-8 (68)',
      Buffer.concat([
        Buffer.from('{"model":"m","prompt":"'),
        Buffer.from([0xff, 0xc0, 0xaf, 0x80]),
        Buffer.from('"}'),
      ]),
    ],
    ['stream "false" (72)', Buffer.from('{"model":"m","stream":"false"}')],
    ['stream 0 (72)', Buffer.from('{"model":"m","stream":0}')],
    ['stream null (72)', Buffer.from('{"model":"m","stream":null}')],
    ['no stream (72)', Buffer.from('{"model":"m"}')],
  ]
  for (const [what, body] of exact) {
    test(`with ${what} reaches the node byte for byte`, async () => {
      const { status, received } = await forwarded(body)
      assert.equal(status, '200')
      assert.deepEqual(received, body)
    })
  }

  test('of exactly the limit is served (70)', async () => {
    const { status } = await forwarded(Buffer.from(chat.padEnd(limit)), { limits: { body_bytes: limit } })
    assert.equal(status, '200')
  })

  test('with an invented model name never becomes a label (66)', async () => {
    await using wire = await startWireGateway()
    for (const name of ['evil-label', 'registry.evil/a/b', '__proto__']) {
      assert.match(await wire.send(post('/api/chat', model(name)), /\r\n\r\n./), /^HTTP\/1.1 404 /)
    }
    assert(!/evil|__proto__/.test(await wire.gateway.metrics.registry.metrics()))
    await wire.assertWell()
  })
})

suite('a body of 20 MB', () => {
  const megabytes = 20
  const size = megabytes * 1024 * 1024
  const head = (length: number) =>
    Buffer.from(`POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`)
  const heavy: readonly [name: string, body: Buffer, status: string][] = [
    [
      'that is an image is served (69)',
      Buffer.from(`{"model":"m","images":["${'QUJD'.repeat(size / 4)}"]}`),
      '200',
    ],
    ['of brackets is refused (62)', Buffer.alloc(size, '['), '400'],
    ['of brackets in an object is refused (62)', Buffer.from(`{"model":"m","x":${'['.repeat(size)}`), '400'],
    [
      'of a million and a half fields is refused (63)',
      Buffer.from(`{"model":"m"${Array.from({ length: 1_500_000 }, (_, n) => `,"m${n}":0`).join('')}}`),
      '400',
    ],
  ]
  for (const [name, body, status] of heavy) {
    test(`${name} without holding up the others`, async () => {
      let received = 0
      await using wire = await startWireGateway({
        serve: (socket, text) => {
          received += text.length
          if (received < body.length) return
          received = 0
          socket.write(rawAnswer('{"done":true}'))
        },
      })
      const request = Buffer.concat([head(body.length), body])
      const ms = await longestTurnMs(
        async () => assert.equal(statuses(await wire.send(request, /\r\n\r\n./))[0], status),
        { enough: 40 },
      )
      assert(ms < 50, `the loop was blocked for ${ms} ms`)
      await wire.assertWell()
    })
  }
})

const zstdPaths = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/responses',
  '/v1/messages',
] as const
const zstd = 'Content-Encoding: zstd\r\n'

function zstdPost(path: string, body: Buffer): Buffer {
  const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n${zstd}\r\n`
  return Buffer.concat([Buffer.from(head), body])
}

suite('a body in zstd', () => {
  for (const path of zstdPaths) {
    test(`comes to the node of ${path} as what it means`, async () => {
      await using wire = await startWireGateway()
      const packed = zstdCompressSync(chat)
      assert.match(await wire.send(zstdPost(path, packed), /\r\n\r\n./), /^HTTP\/1.1 200 /)
      const [head = '', body] = (wire.node.received[0] ?? '').split('\r\n\r\n')
      assert.equal(body, chat)
      assert.match(head, new RegExp(`content-length: ${chat.length}`, 'i'))
      assert(!/encoding/i.test(head), head)
      await wire.assertWell()
    })
  }

  /** Compresses so many spaces before a request, without the size in the header. */
  const packedStream = async (mebibytes: number, params = {}) => {
    const stream = createZstdCompress({ params })
    const chunks: Buffer[] = []
    stream.on('data', (chunk) => chunks.push(chunk))
    for (let n = 0; n < mebibytes; n++) stream.write(Buffer.alloc(1024 * 1024, 0x20))
    stream.end(chat)
    await once(stream, 'end')
    return Buffer.concat(chunks)
  }
  const windowOf = (log: number) => ({ [constants.ZSTD_c_windowLog]: log })

  test('that decompresses to more than 20 MiB is refused as soon as it does (57)', async () => {
    await using wire = await startWireGateway()
    const bomb = await packedStream(200)
    assert(bomb.length < 200_000)
    const answer = await wire.send(zstdPost('/v1/chat/completions', bomb), /\r\n\r\n./)
    assert.match(answer, /^HTTP\/1.1 413 [\s\S]*larger than 20971520 bytes/)
    await wire.assertWell()
    assert.equal(wire.gateway.pipeline.bodies.heldBytes, 0)
  })

  test('that needs more memory than the largest body could use is refused, even when small (57)', async () => {
    await using wire = await startWireGateway()
    for (const [windowLog, status] of [
      [25, 200],
      [27, 400],
    ] as const) {
      const body = await packedStream(1, windowOf(windowLog))
      const answer = await wire.send(zstdPost('/v1/chat/completions', body), /\r\n\r\n./)
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `))
    }
    await wire.assertWell()
  })

  test('counts with the memory for its decompression, until that is done (348)', async () => {
    const config = { limits: { body_bytes: 65_536, inflight_body_bytes: 8 * 1024 * 1024 } }
    await using wire = await startWireGateway({ config, serve: () => {} })
    const large = zstdPost('/v1/chat/completions', await packedStream(0, windowOf(22)))
    const half = connect(wire.gateway.port, '127.0.0.1').on('error', () => {})
    half.write(large.subarray(0, -10))
    await eventually(() => wire.gateway.pipeline.bodies.heldBytes > 4 * 1024 * 1024, 'its window counts')
    assert.match(await wire.send(large, /\r\n\r\n./), /^HTTP\/1.1 503 [\s\S]*too many request bodies/)
    half.destroy()
    await eventually(() => wire.gateway.pipeline.bodies.heldBytes === 0, 'all of it is given back')
  })

  const packed = zstdCompressSync(chat)
  const broken: readonly [what: string, body: Buffer, status: number][] = [
    ['what is none', Buffer.from(chat), 400],
    ['half of one', packed.subarray(0, -5), 400],
    ['one of nothing', zstdCompressSync(''), 400],
    ['an empty one', Buffer.alloc(0), 400],
  ]
  for (const [what, body, status] of broken) {
    test(`must be one: not ${what}`, async () => {
      await using wire = await startWireGateway()
      const answer = await wire.send(zstdPost('/v1/messages', body), /\r\n\r\n./)
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*"invalid_request_error"`))
      assert.deepEqual(wire.node.received, [])
      await wire.assertWell()
    })
  }
})

suite('of packed bodies, refused are', () =>
  refuses([
    ...['/api/chat', '/api/show', '/v1/messages/count_tokens'].map((path) => ({
      name: `zstd on ${path} (57)`,
      bytes: zstdPost(path, zstdCompressSync(chat)),
      answer: /^HTTP\/1.1 415 /,
    })),
    ...['gzip', 'br', 'zstd, zstd', 'deflate'].map((encoding) => ({
      name: `${encoding} on /v1/chat/completions (57)`,
      bytes: post('/v1/chat/completions', chat, `Content-Encoding: ${encoding}\r\n`),
      answer: /^HTTP\/1.1 415 /,
    })),
  ]))
