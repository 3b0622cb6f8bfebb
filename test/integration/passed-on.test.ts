import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, exchangeBytes, rawAnswer, startRawNode } from '../support/wire.ts'

const aKey = (token: string, scopes: readonly string[]) =>
  apiKeySchema.parse({ hash: hashToken(token), scopes })
const keys = new Map([
  ['user', aKey('llm_user', ['inference'])],
  ['admin', aKey('llm_admin', ['inference', 'admin'])],
])
const as = (who: string) => ({ authorization: `Bearer llm_${who}` })
const identityRoutes = [
  ['POST', '/api/me'],
  ['POST', '/api/signout'],
  ['DELETE', '/api/user/keys/abc'],
  ['POST', '/api/experimental/web_search'],
  ['POST', '/api/experimental/web_fetch'],
] as const

/** A gateway in front of two nodes, of which `b` answers 418 with what it was asked. */
async function start(config: object = {}, { loopback = false, health = 'up' as 'up' | 'down' } = {}) {
  const a = await startRawNode((socket) => void socket.write(rawAnswer('{"by":"a"}')))
  const b = await startRawNode((socket, bytes) => {
    const asked = bytes.split('\r\n', 1)[0] ?? ''
    const said = asked.startsWith('HEAD') ? '' : JSON.stringify({ asked })
    socket.write(rawAnswer(said, { status: '418 No' }))
  })
  const nodes = [
    { name: 'a', url: a.url, health },
    { name: 'b', url: b.url, health },
  ]
  const gateway = await startGateway(aSnapshot({ nodes, keys, config: config as Record<string, unknown> }), {
    loopback,
  })
  return {
    ...gateway,
    a,
    b,
    ask: async (method: string, path: string, headers: Record<string, string> = {}, body?: string) => {
      const init = { method, headers, ...(body !== undefined && { body }) }
      const response = await fetch(gateway.url + path, init)
      return { status: response.status, text: await response.text(), headers: response.headers }
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await a[Symbol.asyncDispose]()
      await b[Symbol.asyncDispose]()
    },
  }
}

suite('a path that acts with the account of a node', () => {
  for (const [method, path] of identityRoutes) {
    test(`is refused, unless the configuration names the node: ${method} ${path}`, async () => {
      await using closed = await start()
      const refusal = await closed.ask(method, path, as('admin'))
      assert.equal(refusal.status, 403)
      assert(refusal.text.includes(`does not serve ${path}: this path uses`), refusal.text)

      await using open = await start({ node_identity: { node: 'b' } })
      const answer = await open.ask(method, path, as('admin'), '{"query":"x"}')
      assert.deepEqual(
        [answer.status, JSON.parse(answer.text)],
        [418, { asked: `${method} ${path} HTTP/1.1` }],
      )
      assert.match(open.b.received[0] ?? '', /content-length: 13\r\n[\s\S]*\r\n\r\n\{"query":"x"\}$/i)
      assert(!/llm_/.test(open.b.received[0] ?? ''), 'no key of ours reaches a node')
      assert.deepEqual(open.a.received, [])
    })
  }

  test('needs a key with the scope admin, also on loopback', async () => {
    for (const loopback of [true, false]) {
      await using gateway = await start({ node_identity: { node: 'b' } }, { loopback })
      const headers: Record<string, string>[] = [as('user'), ...(loopback ? [{}, as('user')] : [])]
      for (const each of headers) {
        const { status, text } = await gateway.ask('POST', '/api/me', each)
        assert.equal(status, 403)
        assert.match(text, /needs an API key with the scope admin/)
      }
      assert.deepEqual(gateway.b.received, [])
    }
  })

  test('is asked of its own node also against the advice of a leader (301)', async () => {
    await using gateway = await start({ node_identity: { node: 'b' } }, { health: 'down' })
    assert.equal((await gateway.ask('POST', '/api/me', as('admin'))).status, 418)
  })

  test('is asked of no other node when its own is down', async () => {
    await using gateway = await start({ node_identity: { node: 'b' } }, { health: 'down' })
    await gateway.b[Symbol.asyncDispose]()
    const { status, headers } = await gateway.ask('POST', '/api/me', as('admin'))
    assert.deepEqual([status, headers.get('retry-after')], [503, '5'])
    assert.deepEqual(gateway.a.received, [])
  })
})

suite('a path that is not known', () => {
  const config = { routing: { unknown_paths: 'b' } }

  test('goes to the node that is to get it, with any key, and the answer comes back as it is', async () => {
    await using gateway = await start(config)
    for (const [method, path, body] of [
      ['GET', '/api/new', undefined],
      ['POST', '/v1/images/generations', '{"prompt":"x"}'],
      ['DELETE', '/api/new/thing-1', undefined],
      ['PUT', '/v1/a.b/c', 'x'],
    ] as const) {
      const { status, text } = await gateway.ask(method, path, as('user'), body)
      assert.deepEqual([status, JSON.parse(text)], [418, { asked: `${method} ${path} HTTP/1.1` }])
    }
    assert.equal((await gateway.ask('GET', '/api/new')).status, 403)
    assert.equal((await gateway.ask('HEAD', '/api/new', as('user'))).status, 418)
    assert.deepEqual(gateway.a.received, [])
    const metrics = await gateway.metrics.registry.metrics()
    assert.match(metrics, /requests_total\{api="other",model="",code="418",outcome="ok"\} 5/)
  })

  test('is still none when it could be read in two ways, or lies elsewhere', async () => {
    await using gateway = await start(config, { loopback: true })
    for (const path of [
      '/api/../x',
      '/api/./x',
      '/api//x',
      '/api/x/',
      '/api/%6eew',
      '/api/x%2fy',
      '/api/x;y',
      '/apix',
      '/api',
      '/v2/x',
      '/metrics',
    ]) {
      const answer = await exchangeBytes(gateway.port, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, /\r\n\r\n./)
      assert.match(answer, /^HTTP\/1.1 404 /, path)
    }
    assert.deepEqual(gateway.b.received, [])
  })

  test('is not what is known: that stays refused, and takes its own methods only', async () => {
    await using gateway = await start(config, { loopback: true })
    assert.equal((await gateway.ask('POST', '/api/push')).status, 403)
    assert.equal((await gateway.ask('POST', '/api/me')).status, 403)
    assert.equal((await gateway.ask('PUT', '/api/chat')).status, 405)
    assert.deepEqual(gateway.b.received, [])
  })

  test('that the node breaks off is not sent again, and never looks complete', async () => {
    const half = 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf'
    await using node = await startRawNode((socket) => void socket.end(half))
    const nodes = [{ name: 'b', url: node.url }]
    await using gateway = await startGateway(aSnapshot({ nodes, config }))
    await assert.rejects(async () => await (await fetch(`${gateway.url}/api/new`)).text())
    assert.equal(node.received.length, 1)
    assert.deepEqual(gateway.doubted, ['b'])
  })
})

suite('recommended models', () => {
  const path = '/api/experimental/model-recommendations'
  test('come from another node when the first is silent and no new connection to it comes up (304)', async () => {
    await using silent = await startRawNode(() => {})
    await using other = await startRawNode((socket) => void socket.write(rawAnswer('{"by":"other"}')))
    const nodes = [
      { name: 'a', url: silent.url },
      { name: 'b', url: other.url },
    ]
    await using gateway = await startGateway(aSnapshot({ nodes }), { clock: new RealClock(0.05) })
    const answer = fetch(`${gateway.url}/api/experimental/model-recommendations`)
    await eventually(() => silent.received.length === 1, 'the first has it')
    silent.refuse()
    assert.deepEqual(await (await answer).json(), { by: 'other' })
  })

  test('come from any node, and from another when it fails', async () => {
    const node = await SimulatedNode.start({ name: 'good', models: [] })
    try {
      const direct = await (await fetch(node.url + path)).text()
      const nodes = [
        { name: 'a', url: 'http://127.0.0.1:1' },
        { name: 'b', url: node.url },
      ]
      await using gateway = await startGateway(aSnapshot({ nodes }))
      const answer = await fetch(gateway.url + path)
      assert.deepEqual([answer.status, await answer.text()], [200, direct])
    } finally {
      await node.stop()
    }
  })

  test('come from nowhere when no node is up', async () => {
    await using gateway = await start({}, { loopback: true, health: 'down' })
    for (const node of [gateway.a, gateway.b]) await node[Symbol.asyncDispose]()
    assert.equal((await gateway.ask('GET', path)).status, 503)
  })
})

test('/api/status says that models in the cloud are not to be had', async () => {
  await using gateway = await start({}, { loopback: true })
  const { status, text } = await gateway.ask('GET', '/api/status')
  assert.deepEqual([status, text], [200, '{"cloud":{"disabled":true,"source":"config"}}'])
})
