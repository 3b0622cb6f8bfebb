import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import type { InventoryModel, NodeStatus } from '../../lib/fleet/node.ts'
import { buildSnapshot, type Snapshot } from '../../lib/fleet/snapshot.ts'
import { aDocuments, aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

const token = 'llm_test-token'
const bearer = { authorization: `Bearer ${token}` }
const aKey = (models = ['*']) => new Map([['team', apiKeySchema.parse({ hash: hashToken(token), models })]])
/** Answers every request with the body it was sent, and itself. */
const echoNode = (name = 'a') =>
  startRawNode((socket, bytes) => {
    const [head = '', body = ''] = bytes.split('\r\n\r\n')
    const agent = /user-agent: (.*)/i.exec(head)?.[1]
    socket.write(
      rawAnswer(
        JSON.stringify({
          by: name,
          agent,
          asked: body.startsWith('{') ? JSON.parse(body) : body,
          done: true,
        }),
      ),
    )
  })

interface Answer {
  readonly status: number
  readonly type: string
  readonly headers: Headers
  readonly text: string
  readonly json: never
}

async function ask(url: string, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url + path, init)
  const text = await response.text()
  const type = response.headers.get('content-type') ?? ''
  const json = (type.startsWith('application/json') && text !== '' ? JSON.parse(text) : null) as never
  return { status: response.status, type, headers: response.headers, text, json }
}

const post = (body: unknown, headers: Record<string, string> = {}) => ({
  method: 'POST',
  body: JSON.stringify(body),
  headers,
})

type Dialect = 'ollama' | 'openai' | 'anthropic'
const errorShapes: Readonly<Record<Dialect, RegExp>> = {
  ollama: /^\{"error":".+"\}$/,
  openai: /^\{"error":\{"message":".+","type":"\w+","param":null,"code":("\w+"|null)\}\}$/,
  anthropic: /^\{"type":"error","error":\{"type":"\w+","message":".+"\},"request_id":".+"\}$/,
}

type Row = readonly [
  method: string,
  path: string,
  dialect: Dialect,
  expected: 'ok' | 'refused' | 'admin only',
  api: string,
]
/** The paths of docs/architecture.md#what-a-client-sees, one by one. */
const rows: readonly Row[] = [
  ['HEAD', '/', 'ollama', 'ok', 'inventory'],
  ['GET', '/', 'ollama', 'ok', 'inventory'],
  ['HEAD', '/api/version', 'ollama', 'ok', 'inventory'],
  ['GET', '/api/version', 'ollama', 'ok', 'inventory'],
  ['GET', '/api/status', 'ollama', 'ok', 'inventory'],
  ['HEAD', '/api/tags', 'ollama', 'ok', 'inventory'],
  ['GET', '/api/tags', 'ollama', 'ok', 'inventory'],
  ['GET', '/api/ps', 'ollama', 'ok', 'inventory'],
  ['POST', '/api/show', 'ollama', 'ok', 'inventory'],
  ['POST', '/api/generate', 'ollama', 'ok', 'ollama_generate'],
  ['POST', '/api/chat', 'ollama', 'ok', 'ollama_chat'],
  ['POST', '/api/embed', 'ollama', 'ok', 'ollama_embed'],
  ['POST', '/api/embeddings', 'ollama', 'ok', 'ollama_embeddings'],
  ['POST', '/api/pull', 'ollama', 'admin only', 'management'],
  ['POST', '/api/push', 'ollama', 'admin only', 'management'],
  ['POST', '/api/create', 'ollama', 'admin only', 'management'],
  ['POST', '/api/copy', 'ollama', 'admin only', 'management'],
  ['DELETE', '/api/delete', 'ollama', 'admin only', 'management'],
  ['HEAD', `/api/blobs/sha256:${'0'.repeat(64)}`, 'ollama', 'admin only', 'management'],
  ['POST', `/api/blobs/sha256:${'0'.repeat(64)}`, 'ollama', 'admin only', 'management'],
  ['POST', '/api/me', 'ollama', 'refused', 'node-identity'],
  ['POST', '/api/signout', 'ollama', 'refused', 'node-identity'],
  ['DELETE', '/api/user/keys/abc', 'ollama', 'refused', 'node-identity'],
  ['POST', '/api/experimental/web_search', 'ollama', 'refused', 'node-identity'],
  ['POST', '/api/experimental/web_fetch', 'ollama', 'refused', 'node-identity'],
  ['GET', '/api/experimental/model-recommendations', 'ollama', 'ok', 'inventory'],
  ['POST', '/v1/chat/completions', 'openai', 'ok', 'openai_chat'],
  ['POST', '/v1/completions', 'openai', 'ok', 'openai_completions'],
  ['POST', '/v1/embeddings', 'openai', 'ok', 'openai_embeddings'],
  ['GET', '/v1/models', 'openai', 'ok', 'inventory'],
  ['GET', '/v1/models/m', 'openai', 'ok', 'inventory'],
  ['POST', '/v1/responses', 'openai', 'ok', 'openai_responses'],
  ['POST', '/v1/audio/transcriptions', 'openai', 'ok', 'openai_transcriptions'],
  ['POST', '/v1/systemone', 'openai', 'ok', 'ollama_systemone'],
  ['POST', '/v1/messages', 'anthropic', 'ok', 'anthropic_messages'],
  ['POST', '/v1/messages/count_tokens', 'anthropic', 'ok', 'inference'],
]

suite('every path of Ollama:', () => {
  for (const [method, path, dialect, expected, api] of rows) {
    test(`${method} ${path} is ${expected}`, async () => {
      await using node = await echoNode()
      await using gateway = await startGateway(
        aSnapshot({ nodes: [{ name: 'a', url: node.url }], keys: aKey() }),
        { loopback: false },
      )
      const body = method === 'POST' || method === 'DELETE' ? { body: '{"model":"m","stream":false}' } : {}
      const form = new FormData()
      form.set('model', 'm')
      const sent = api === 'openai_transcriptions' ? { body: form } : body
      const answer = await ask(gateway.url, path, { method, headers: bearer, ...sent })
      assert.equal(answer.status, expected === 'ok' ? 200 : 403)
      assert.match(answer.type, path === '/' ? /^text\/plain/ : /^application\/json/)
      if (expected !== 'ok') assert.deepEqual(node.received, [])
      if (expected === 'admin only' && method !== 'HEAD')
        assert.match(answer.text, /needs the scope admin.*llamero key create/)
      if (expected === 'refused' && method !== 'HEAD') {
        assert.match(answer.text, errorShapes[dialect])
        assert(answer.text.includes(`llamero does not serve ${path}: `), answer.text)
      }
      const metrics = await gateway.metrics.registry.metrics()
      assert.match(metrics, new RegExp(`requests_total\\{api="${api}"`))
    })
  }

  const keyless = rows.filter(([, path]) => path !== '/')
  test('takes a key where anonymous callers are not let in, but for the heartbeat', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a' }] }), { loopback: false })
    for (const [method, path, dialect] of keyless) {
      const { status, text } = await ask(gateway.url, path, { method })
      assert.equal(status, 403, path)
      if (method !== 'HEAD') assert.match(text, errorShapes[dialect])
      assert(!text.includes('does not serve'), 'a stranger learns nothing of what is served')
    }
    assert.equal((await ask(gateway.url, '/')).text, 'Ollama is running')
  })

  test('takes no other method than it does at Ollama, and names those', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a' }] }))
    for (const path of new Set(rows.map(([, path]) => path))) {
      const { status, headers } = await ask(gateway.url, path, { method: 'PATCH' })
      const methods = rows.filter(([, other]) => other === path).map(([method]) => method)
      const named = headers.get('allow')?.split(', ').sort()
      assert.deepEqual([status, named], [405, methods.sort()], path)
    }
  })

  test('is known exactly: what is not there is 404 in the dialect of its prefix', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a' }] }))
    const unknown: readonly [string, Dialect][] = [
      ['/api/experimental/other', 'ollama'],
      ['/api/blobs/', 'ollama'],
      ['/api/blobs/a/b', 'ollama'],
      ['/api/user/keys/', 'ollama'],
      ['/v1/models/', 'openai'],
      ['/v1/images/generations', 'openai'],
      ['/v1/messages/batches', 'anthropic'],
    ]
    for (const [path, dialect] of unknown) {
      const { status, text } = await ask(gateway.url, path)
      assert.equal(status, 404, path)
      assert.match(text, errorShapes[dialect])
    }
  })
})

suite('a single model of /v1/models', () => {
  const fleet = aSnapshot({
    nodes: [{ name: 'a', models: ['m:latest', 'team/big:8b', 'hf.co/team/m:q4', 'secret:latest'] }],
    routes: new Map([['r', routeSchema.parse({ match: { model: 'gpt-*' }, model: 'm' })]]),
    keys: aKey(['m:*', 'team/*', 'hf.co/*', 'gpt-*']),
  })
  const retrieve = async (path: string) => {
    await using gateway = await startGateway(fleet, { loopback: false })
    return await ask(gateway.url, `/v1/models/${path}`, { headers: bearer })
  }

  for (const [path, id, owner] of [
    ['m', 'm', 'library'],
    ['M:Latest', 'M:Latest', 'library'],
    ['team/big:8b', 'team/big:8b', 'team'],
    ['team%2Fbig%3A8b', 'team/big:8b', 'team'],
    ['hf.co/team/m:q4', 'hf.co/team/m:q4', 'team'],
    ['gpt-4', 'gpt-4', 'library'],
  ] as const) {
    test(`is found as ${path}, and keeps the name it was asked by`, async () => {
      const { status, json } = await retrieve(path)
      assert.deepEqual([status, json], [200, { id, object: 'model', created: 1767225600, owned_by: owner }])
    })
  }

  for (const [path, expected] of [
    ['unknown', 404],
    ['secret', 404],
    ['a/b/c/d', 400],
    ['%ff', 400],
    ['__proto__', 404],
  ] as const) {
    test(`is refused as ${path} with ${expected}`, async () => {
      const { status, text } = await retrieve(path)
      assert.equal(status, expected)
      assert.match(text, errorShapes.openai)
    })
  }
})

suite('the lists', () => {
  const model = (fields: Partial<InventoryModel>): InventoryModel => ({
    name: 'm:latest',
    digest: 'd',
    size: 1,
    modified_at: '2026-01-01T00:00:00Z',
    details: {},
    ...fields,
  })
  const listed = async (snapshot: Snapshot, path = '/api/tags') => {
    await using gateway = await startGateway(snapshot)
    return (await ask(gateway.url, path)).json as { models: Record<string, unknown>[] }
  }

  test('show of one name the copy that is newest by the clock, wherever its node is', async () => {
    const snapshot = withModels({
      a: [model({ digest: 'old', modified_at: '2026-01-01T10:00:00+09:00' })],
      b: [model({ digest: 'new', modified_at: '2026-01-01T02:00:00Z' })],
      c: [model({ digest: 'junk', modified_at: 'yesterday' })],
    })
    const { models } = await listed(snapshot)
    assert.deepEqual(
      models.map(({ digest }) => digest),
      ['new'],
    )
  })

  test('begin with the newest model by the clock', async () => {
    const snapshot = withModels({
      a: [
        model({ name: 'old:1b', modified_at: '2026-01-01T10:00:00.123456789+09:00' }),
        model({ name: 'new:1b', modified_at: '2026-01-01T02:00:00.5Z' }),
      ],
    })
    assert.deepEqual(
      (await listed(snapshot)).models.map(({ name }) => name),
      ['new:1b', 'old:1b'],
    )
  })

  test('tell of each node what it has loaded, in rows that a person can tell apart (368)', async () => {
    const models = ['m:latest', 'solo:latest']
    const nodes = [
      { name: 'a', models, loaded: models },
      { name: 'b', models, loaded: ['m:latest'] },
    ]
    const rows = async (config = {}) => {
      const { models } = await listed(aSnapshot({ nodes, config }), '/api/ps')
      return models.map(({ name, model, llamero }) => [name, model, llamero])
    }
    assert.deepEqual(await rows(), [
      ['m:latest (a)', 'm:latest', { node: 'a' }],
      ['solo:latest', 'solo:latest', { node: 'a' }],
      ['m:latest (b)', 'm:latest', { node: 'b' }],
    ])
    assert.deepEqual(await rows({ headers: { node: false } }), [
      ['m:latest (1 of 2)', 'm:latest', undefined],
      ['solo:latest', 'solo:latest', undefined],
      ['m:latest (2 of 2)', 'm:latest', undefined],
    ])
  })

  test('are built once for all callers with the same rights, until something changes', async () => {
    let written = 0
    let sorted = 0
    const details = { toJSON: () => ({ written: ++written }) }
    const date = { enumerable: true, get: () => `2026-01-0${Math.sign(++sorted)}T00:00:00Z` }
    const names = Array.from({ length: 50 }, (_, n) => `m${n}:latest`)
    const nodes = Array.from({ length: 1000 }, (_, n) => [
      `node-${n}`,
      names.map((name) => Object.defineProperty(model({ name, details }), 'modified_at', date)),
    ])
    const keys = aKey(['m1*'])
    const snapshot = withModels(Object.fromEntries(nodes) as Record<string, InventoryModel[]>, keys)
    await using gateway = await startGateway(snapshot)
    await ask(gateway.url, '/api/tags')
    const before = sorted
    for (let n = 0; n < 20; n++) assert.equal((await ask(gateway.url, '/api/tags')).status, 200)
    assert.deepEqual([written, sorted], [50, before])
    await ask(gateway.url, '/api/tags', { headers: bearer })
    const beforeBearer = sorted
    for (let n = 0; n < 20; n++) {
      const { json } = await ask(gateway.url, '/api/tags', { headers: bearer })
      assert.equal((json as { models: unknown[] }).models.length, 11)
    }
    assert.deepEqual([written, sorted], [50, beforeBearer], 'no model is written twice, for whomever it is')
    gateway.current.swap(withModels({ a: [model({ details })] }))
    await ask(gateway.url, '/api/tags')
    assert.equal(written, 51)
  })
})

/** A fleet whose nodes, all up, have these models. */
function withModels(models: Readonly<Record<string, readonly InventoryModel[]>>, keys = aKey()): Snapshot {
  const documents = aDocuments({ nodes: Object.keys(models).map((name) => ({ name })), keys })
  const statuses = [...documents.statuses].map(
    ([name, status]) => [name, { ...status, models: models[name] ?? [] }] as const,
  )
  return buildSnapshot({ ...documents, statuses: new Map(statuses) })
}

suite('/api/show', () => {
  const show = (url: string, body: unknown, agent?: string) =>
    ask(url, '/api/show', post(body, agent ? { 'user-agent': agent } : {}))

  test('is asked of a node once, under its canonical name, and then known', async () => {
    await using node = await echoNode()
    await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a', url: node.url }] }))
    for (const body of [{ model: 'M' }, { name: 'm:latest' }, { model: 'm', verbose: false }]) {
      const { status, json } = await show(gateway.url, body, 'ollama/0.32')
      assert.deepEqual(
        [status, json],
        [200, { by: 'a', agent: 'ollama/0.32', asked: { model: 'm:latest' }, done: true }],
      )
    }
    assert.equal(node.received.join('').match(/POST/g)?.length, 1)
  })

  test('is asked again for what changes the answer: verbose, Copilot, another name', async () => {
    await using node = await echoNode()
    const nodes = [{ name: 'a', url: node.url, models: ['m:latest', 'n:latest'] }]
    await using gateway = await startGateway(aSnapshot({ nodes }))
    const texts = [
      await show(gateway.url, { model: 'm' }, 'curl/8'),
      await show(gateway.url, { model: 'm', verbose: true }, 'curl/8'),
      await show(gateway.url, { model: 'm' }, 'GitHubCopilotChat/1'),
      await show(gateway.url, { model: 'n' }, 'curl/8'),
    ].map(({ text }) => text)
    assert.equal(new Set(texts).size, 4)
    assert.match(texts[1] ?? '', /"verbose":true/)
    assert.match(texts[2] ?? '', /"agent":"GitHubCopilotChat\/1"/)
  })

  test('is asked again when the newest digest is another', async () => {
    await using node = await echoNode()
    const documents = aDocuments({ nodes: [{ name: 'a', url: node.url }] })
    await using gateway = await startGateway(buildSnapshot(documents))
    await show(gateway.url, { model: 'm' })
    const [[name, status] = assert.fail()] = [...documents.statuses]
    const models = status.models.map((model) => ({ ...model, digest: 'another' }))
    gateway.current.swap(buildSnapshot({ ...documents, statuses: new Map([[name, { ...status, models }]]) }))
    await show(gateway.url, { model: 'm' })
    assert.equal(node.received.join('').match(/POST/g)?.length, 2)
  })

  test('needs no slot, is one call for all concurrent callers, and goes to the next node when one fails', async () => {
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    await using good = await startRawNode(async (socket) => {
      await released
      socket.write(rawAnswer('{"license":"MIT"}'))
    })
    await using broken = await startRawNode((socket) => socket.destroy())
    await using empty = await startRawNode((socket) =>
      socket.write(rawAnswer('{"error":"model \'m\' not found"}', { status: '404 Not Found' })),
    )
    const nodes = [
      { name: 'a', url: broken.url },
      { name: 'b', url: empty.url },
      { name: 'c', url: good.url },
    ]
    await using gateway = await startGateway(aSnapshot({ nodes }))
    const answers = Array.from({ length: 10 }, () => show(gateway.url, { model: 'm' }))
    setTimeout(release, 50)
    for (const { text } of await Promise.all(answers)) assert.equal(text, '{"license":"MIT"}')
    assert.equal(good.received.join('').match(/POST/g)?.length, 1)
    assert.deepEqual([...new Set(gateway.doubted)].sort(), ['a', 'b'])
  })

  test('prefers the newest copy, and is known when its node is gone', async () => {
    await using older = await echoNode('older')
    await using newer = await echoNode('newer')
    const documents = aDocuments({
      nodes: [
        { name: 'a', url: older.url },
        { name: 'b', url: newer.url },
      ],
    })
    const withDigests = (health: 'up' | 'down') =>
      buildSnapshot({
        ...documents,
        statuses: new Map(
          [...documents.statuses].map(([name, status]) => {
            const modified_at = name === 'a' ? '2026-01-01T00:00:00Z' : '2026-02-01T00:00:00Z'
            const models = status.models.map((model) => ({ ...model, digest: name, modified_at }))
            return [name, { ...status, models, health: name === 'b' ? health : 'up' }]
          }),
        ),
      })
    await using gateway = await startGateway(withDigests('up'))
    assert.match((await show(gateway.url, { model: 'm' })).text, /"by":"newer"/)
    gateway.current.swap(withDigests('down'))
    assert.match((await show(gateway.url, { model: 'm' })).text, /"by":"newer"/)
    assert.match((await show(gateway.url, { model: 'm', verbose: true })).text, /"by":"older"/)
  })

  test('is asked again after an upgrade of Ollama on the node, and passed on with its new fields (374)', async () => {
    const thinking = { values: ['low', 'high'], default: 'high' }
    await using old = await startRawNode((socket) => socket.write(rawAnswer('{"capabilities":["thinking"]}')))
    await using upgraded = await startRawNode((socket) =>
      socket.write(rawAnswer(JSON.stringify({ thinking }))),
    )
    const documents = aDocuments({
      nodes: [
        { name: 'a', url: old.url },
        { name: 'b', url: upgraded.url },
      ],
    })
    const withVersions = (b: string, health: 'up' | 'down' = 'up') => {
      const status = (name: string) => documents.statuses.get(name) as NodeStatus
      const statuses = new Map([
        ['a', { ...status('a'), version: '0.9.6' }],
        ['b', { ...status('b'), version: b, health }],
      ])
      return buildSnapshot({ ...documents, statuses })
    }
    await using gateway = await startGateway(withVersions('0.9.6', 'down'))
    const shown = async () => (await show(gateway.url, { model: 'm' })).json
    assert.deepEqual(await shown(), { capabilities: ['thinking'] })
    gateway.current.swap(withVersions('0.35.0'))
    for (let nth = 0; nth < 3; nth++) assert.deepEqual(await shown(), { thinking })
    gateway.current.swap(withVersions('0.35.0', 'down'))
    assert.deepEqual(await shown(), { thinking }, 'from memory')
    assert.deepEqual(
      [old, upgraded].map(({ received }) => received.join('').match(/POST/g)?.length),
      [1, 1],
    )
  })

  test('names the fault', async () => {
    const nodes = [{ name: 'a', health: 'down' as const, models: ['m:latest', 'secret:latest'] }]
    await using gateway = await startGateway(aSnapshot({ nodes, keys: aKey(['m:*']) }), { loopback: false })
    const cases: readonly [body: string, status: number, text: RegExp][] = [
      ['{}', 400, /model is required/],
      ['{"model":7}', 400, /model is required/],
      ['[', 400, /invalid JSON body/],
      ['{"model":"a b"}', 400, /invalid model name/],
      ['{"model":"unknown"}', 404, /model 'unknown' not found/],
      ['{"model":"secret"}', 404, /model 'secret' not found/],
      [
        '{"model":"m"}',
        503,
        /has model 'm:latest' can take requests for it: a \(refuses connections\); try again/,
      ],
      [JSON.stringify({ model: 'm', system: 'x'.repeat(70_000) }), 413, /larger than 65536 bytes/],
    ]
    for (const [body, status, text] of cases) {
      const answer = await ask(gateway.url, '/api/show', { method: 'POST', headers: bearer, body })
      assert.equal(answer.status, status, body.slice(0, 100))
      assert.match(answer.text, text)
      assert.match(answer.text, errorShapes.ollama)
    }
  })
})

suite('/v1/messages/count_tokens', () => {
  const messages = [{ role: 'user', content: 'x'.repeat(396) }]
  const image = { type: 'image', source: { type: 'base64', data: 'A'.repeat(100_000) } }
  const tool = { name: 'find', description: 'y'.repeat(40), input_schema: { type: 'object', properties: {} } }
  for (const [what, body, tokens] of [
    ['plain text', { messages }, 100],
    ['a system prompt', { messages, system: 'z'.repeat(400) }, 200],
    ['blocks', { messages: [{ role: 'user', content: [{ type: 'text', text: 'x'.repeat(396) }] }] }, 100],
    ['an image, whose bytes are none', { messages: [{ role: 'user', content: [image] }] }, 1],
    ['tools', { messages, tools: [tool] }, 119],
    ['nothing', { messages: [] }, 1],
  ] as const) {
    test(`estimates ${what}, and says that it does`, async () => {
      await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a' }] }))
      const answer = await ask(
        gateway.url,
        '/v1/messages/count_tokens?beta=true',
        post({ model: 'm', ...body }),
      )
      assert.deepEqual([answer.status, answer.json], [200, { input_tokens: tokens }])
      assert.equal(answer.headers.get('x-llamero-estimate'), 'true')
    })
  }

  for (const [body, expected] of [
    [{ model: 'unknown', messages }, 404],
    [{ messages }, 400],
    [[], 400],
  ] as const) {
    test(`answers ${JSON.stringify(body).slice(0, 20)}... with ${expected}`, async () => {
      await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a' }] }))
      const { status, text } = await ask(gateway.url, '/v1/messages/count_tokens', post(body))
      assert.equal(status, expected)
      assert.match(text, errorShapes.anthropic)
    })
  }
})
