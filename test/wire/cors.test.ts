import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { rawAnswer } from '../support/wire.ts'
import { chat, get, post, startWireGateway } from '../support/wire-gateway.ts'

const preflight = (origin: string, more = '') =>
  `OPTIONS /api/chat HTTP/1.1\r\nHost: x\r\nOrigin: ${origin}\r\nAccess-Control-Request-Method: POST\r\n${more}\r\n`

/** The headers of an answer, by name in lower case. */
function headersOf(answer: string): Record<string, string> {
  const [head = ''] = answer.split('\r\n\r\n')
  const pairs = head.split('\r\n').slice(1)
  return Object.fromEntries(
    pairs.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 2)]
    }),
  )
}

suite('a web page', () => {
  const origins: readonly [origin: string, configured: readonly string[] | undefined, allowed: boolean][] = [
    ['http://localhost', undefined, true],
    ['https://localhost:5173', undefined, true],
    ['http://127.0.0.1:3000', undefined, true],
    ['http://0.0.0.0:80', undefined, true],
    ['app://obsidian.md', undefined, true],
    ['tauri://localhost', undefined, true],
    ['vscode-webview://abc', undefined, true],
    ['http://localhost.evil.example', undefined, false],
    ['http://evil.example', undefined, false],
    ['http://evil.example:11434', undefined, false],
    ['chrome-extension://abc', undefined, false],
    ['null', undefined, false],
    ['http://chat.example', ['http://chat.example'], true],
    ['https://chat.example', ['http://chat.example'], false],
    ['http://localhost', ['http://chat.example'], false],
    ['chrome-extension://abc', ['chrome-extension://*'], true],
    ['http://any.example', ['*'], true],
    ['null', ['*'], false],
    ['http://localhost', [], false],
  ]
  for (const [origin, configured, allowed] of origins) {
    const where = configured ? ` where ${JSON.stringify(configured)} may` : ''
    test(`of ${origin} ${allowed ? 'may' : 'may not'} read answers${where}`, async () => {
      await using wire = await startWireGateway({
        config: configured ? { cors: { origins: configured } } : {},
        serve: (socket) =>
          socket.write(rawAnswer('{"done":true}', { extra: 'Access-Control-Allow-Origin: *\r\n' })),
      })
      const bytes = [
        preflight(origin),
        get('/api/tags', `Host: x\r\nOrigin: ${origin}\r\n`),
        get('/api/nothing', `Host: x\r\nOrigin: ${origin}\r\n`),
        post('/api/chat', chat, `Origin: ${origin}\r\n`),
      ]
      const answers = await Promise.all(bytes.map((each) => wire.send(each, /\r\n\r\n/)))
      assert.deepEqual(
        answers.map((answer) => answer.slice(9, 12)),
        allowed ? ['204', '200', '404', '200'] : ['403', '403', '403', '403'],
      )
      for (const answer of answers) {
        const headers = headersOf(answer)
        assert.equal(headers['access-control-allow-origin'], allowed ? origin : undefined)
        assert.equal(headers['vary'], allowed ? 'Origin' : undefined)
        assert.equal(headers['access-control-allow-credentials'], undefined)
      }
      assert(!/origin/i.test(wire.node.received.join('')), 'the node saw an origin')
      await wire.assertWell()
    })
  }

  test('from the same address is not cross-origin', async () => {
    await using wire = await startWireGateway({ config: { auth: { hosts: ['chat.example'] } } })
    assert.match(
      await wire.send(get('/api/tags', 'Host: chat.example\r\nOrigin: https://chat.example\r\n')),
      / 200 OK/,
    )
    assert.match(
      await wire.send(get('/api/tags', 'Host: chat.example\r\nOrigin: https://other.example\r\n')),
      / 403 /,
    )
    assert.match(await wire.send(get('/api/tags', 'Host: chat.example\r\nOrigin: junk\r\n')), / 403 /)
  })

  test('gets a preflight response without a key', async () => {
    await using wire = await startWireGateway({ loopback: false })
    const wanted = 'authorization, content-type,x-api-key, x-stainless-lang'
    const answer = await wire.send(
      preflight('http://localhost:1', `Access-Control-Request-Headers: ${wanted}\r\n`),
    )
    const headers = headersOf(answer)
    assert.match(answer, /^HTTP\/1.1 204 /)
    assert.equal(headers['access-control-allow-headers'], wanted)
    assert.equal(headers['access-control-allow-methods'], 'GET, HEAD, POST, DELETE')
    assert.equal(headers['access-control-max-age'], '43200')
    assert(headers['x-request-id'])
    await wire.assertWell()
  })

  test('gets no malformed header name back', async () => {
    await using wire = await startWireGateway()
    const answer = await wire.send(
      preflight('http://localhost:1', 'Access-Control-Request-Headers: a b; c\r\n'),
    )
    assert.match(answer, /^HTTP\/1.1 204 /)
    assert.equal(headersOf(answer)['access-control-allow-headers'], undefined)
  })

  test('can read the error about its key', async () => {
    await using wire = await startWireGateway({ loopback: false })
    const answer = await wire.send(
      post('/api/chat', chat, 'Origin: http://localhost:1\r\nAuthorization: Bearer llm_wrong\r\n'),
    )
    assert.match(answer, /^HTTP\/1.1 401 /)
    assert.equal(headersOf(answer)['access-control-allow-origin'], 'http://localhost:1')
    assert.equal(headersOf(answer)['access-control-expose-headers'], '*')
  })
})
