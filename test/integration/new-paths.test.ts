import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import { buildSnapshot } from '../../lib/fleet/snapshot.ts'
import { aDocuments } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, type RawNode, rawAnswer, startRawNode } from '../support/wire.ts'

type Serve = Parameters<typeof startRawNode>[0]

/** Says its name, whatever it is asked. */
const saying =
  (name: string): Serve =>
  (socket) =>
    socket.write(rawAnswer(JSON.stringify({ by: name })))
/** As gin answers a path that an older Ollama does not have. */
const pathless: Serve = (socket) =>
  socket.write(
    'HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found',
  )

interface NodeSketch {
  readonly serve: Serve
  readonly models?: readonly string[]
  /** Of each of its models; absent: its lists do not tell. */
  readonly capabilities?: readonly string[]
  readonly weight?: number
}

/** A gateway in front of raw nodes with what they list in memory. */
async function start(sketches: Record<string, NodeSketch>, more: Parameters<typeof aDocuments>[0] = {}) {
  const started = await Promise.all(
    Object.entries(sketches).map(async ([name, sketch]) => ({
      name,
      sketch,
      node: await startRawNode(sketch.serve),
    })),
  )
  const documents = aDocuments({
    ...more,
    nodes: started.map(({ name, node, sketch: { models = ['m:latest'], weight = 1 } }) => ({
      name,
      url: node.url,
      models,
      loaded: models,
      weight,
    })),
  })
  const statuses = [...documents.statuses].map(([name, status]) => {
    const capabilities = sketches[name]?.capabilities
    const models = capabilities ? status.models.map((model) => ({ ...model, capabilities })) : status.models
    return [name, { ...status, models }] as const
  })
  const gateway = await startGateway(buildSnapshot({ ...documents, statuses: new Map(statuses) }))
  const nodes = new Map<string, RawNode>(started.map(({ name, node }) => [name, node]))
  return {
    gateway,
    received: (name: string) => nodes.get(name)?.received ?? [],
    async ask(path: string, body: unknown, headers: Record<string, string> = {}, method = 'POST') {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      const answer = await fetch(gateway.url + path, { method, body: text, headers })
      return { status: answer.status, headers: answer.headers, text: await answer.text() }
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of nodes.values()) await node[Symbol.asyncDispose]()
    },
  }
}

const question = {
  state: 'the site is down',
  questions: { urgent: { type: 'noul', instructions: 'Urgent?' } },
}

suite('/v1/systemone', () => {
  test('goes to a node where the model has the capability "decision" (374)', async () => {
    await using at = await start({
      old: { serve: saying('old'), capabilities: ['completion'], weight: 100 },
      fresh: { serve: saying('fresh'), capabilities: ['completion', 'decision'] },
    })
    const { status, text, headers } = await at.ask('/v1/systemone', { model: 'm', ...question })
    assert.deepEqual([status, JSON.parse(text)], [200, { by: 'fresh' }])
    assert.equal(headers.get('x-llamero-node'), 'fresh')
    assert.deepEqual(at.received('old'), [])
    assert.match(at.received('fresh').join(), /^POST \/v1\/systemone HTTP/)
  })

  test('finds a model by its capability where the request names none (374)', async () => {
    await using at = await start({
      a: { serve: saying('a'), models: ['chat:8b'], capabilities: ['completion'] },
      b: { serve: saying('b'), models: ['judge:1b'], capabilities: ['decision'] },
    })
    for (const body of [question, {}]) {
      const { status, headers } = await at.ask('/v1/systemone', body)
      assert.deepEqual([status, headers.get('x-llamero-adjusted')], [200, 'model=judge:1b'])
    }
    assert.match(at.received('b').join(), /\{"model":"judge:1b","state":"the site is down"/)
    assert.match(at.received('b').join(), /\{"model":"judge:1b"\}/)
  })

  test('is refused for a model that cannot decide anywhere, and where no model can (374)', async () => {
    await using at = await start({ a: { serve: saying('a'), capabilities: ['completion'] } })
    const named = await at.ask('/v1/systemone', { model: 'm', ...question })
    assert.equal(named.status, 400)
    assert.match(JSON.parse(named.text).error.message, /"m:latest" does not support decision/)
    const unnamed = await at.ask('/v1/systemone', question)
    assert.equal(unnamed.status, 404)
    assert.match(JSON.parse(unnamed.text).error.message, /no model here has the capability "decision"/)
    assert.equal((await at.ask('/v1/systemone', { model: 'gone', ...question })).status, 404)
    assert.deepEqual(at.received('a'), [])
  })

  test('finds no model that the key does not cover (374)', async () => {
    const keys = new Map([['k', apiKeySchema.parse({ hash: hashToken('llm_k'), models: ['chat*'] })]])
    await using at = await start(
      { b: { serve: saying('b'), models: ['judge:1b'], capabilities: ['decision'] } },
      { keys },
    )
    const bearer = { authorization: 'Bearer llm_k' }
    const unnamed = await at.ask('/v1/systemone', question, bearer)
    assert.equal(unnamed.status, 404)
    assert.match(unnamed.text, /no model here has the capability/)
    assert.equal((await at.ask('/v1/systemone', { model: 'judge:1b' }, bearer)).status, 404)
    assert.deepEqual(at.received('b'), [])
  })

  test('where lists do not tell, leaves a node that is too old for another and bars nothing there (374)', async () => {
    const generated: Serve = (socket) => socket.write(rawAnswer('{"by":"old","done":true}'))
    const old: Serve = (socket, bytes, ...rest) =>
      (bytes.startsWith('POST /v1/systemone') ? pathless : generated)(socket, bytes, ...rest)
    await using at = await start({ old: { serve: old, weight: 100 }, fresh: { serve: saying('fresh') } })
    const { text, headers } = await at.ask('/v1/systemone', { model: 'm', ...question })
    assert.deepEqual([text, headers.get('x-llamero-attempts')], ['{"by":"fresh"}', '2'])
    assert.match(
      (await at.ask('/api/generate', { model: 'm', prompt: 'x', stream: false })).text,
      /"by":"old"/,
    )
    assert.equal(at.gateway.upstreams.breakerState('old'), 'closed')
  })
})

suite('a POST to a path that is not known, with routing.unknown_paths: model', () => {
  const config = { routing: { unknown_paths: 'model' } }

  test('goes to a node that has the model, in a slot of it, and its answer comes back as it is (374)', async () => {
    const waiting: Parameters<Serve>[0][] = []
    const late: Serve = (socket) => void waiting.push(socket)
    const odd = 'HTTP/1.1 202 Accepted\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\n{]'
    await using at = await start(
      { a: { serve: late }, b: { serve: saying('b'), models: ['other:7b'] } },
      { config },
    )
    for (const path of ['/api/rerank', '/v1/images/generations', '/v1/a.b/c-1']) {
      const answering = at.ask(path, { model: 'm', stream: true, anything: [1] })
      await eventually(() => waiting.length > 0, 'the node is asked')
      assert.equal(at.gateway.scheduler.running('a'), 1, 'a slot is taken')
      waiting.pop()?.write(odd)
      const { status, text, headers } = await answering
      assert.deepEqual([status, text, headers.get('x-llamero-node')], [202, '{]', 'a'])
    }
    assert.match(at.received('a').join(), /POST \/v1\/images\/generations HTTP/)
    assert.deepEqual(at.received('b'), [])
    const metrics = await at.gateway.metrics.registry.metrics()
    assert.match(
      metrics,
      /requests_total\{api="openai_unlisted",model="m:latest",code="202",outcome="ok"\} 2/,
    )
  })

  test('is sent on when a node fails or does not know the path (374)', async () => {
    const broken: Serve = (socket) => void socket.destroy()
    for (const serve of [broken, pathless]) {
      await using at = await start({ a: { serve, weight: 100 }, b: { serve: saying('b') } }, { config })
      const { status, text, headers } = await at.ask('/v1/rerank', { model: 'm' })
      assert.deepEqual([status, text, headers.get('x-llamero-attempts')], [200, '{"by":"b"}', '2'])
    }
    await using alone = await start({ a: { serve: pathless } }, { config })
    assert.equal((await alone.ask('/v1/rerank', { model: 'm' })).status, 404)
  })

  test('obeys the rights of the key, routes and the policy for options (374)', async () => {
    const keys = new Map([['k', apiKeySchema.parse({ hash: hashToken('llm_k'), models: ['other*'] })]])
    const routes = new Map([['r', routeSchema.parse({ match: { model: 'alias' }, model: 'm' })]])
    await using at = await start({ a: { serve: saying('a') } }, { config, keys, routes })
    assert.equal((await at.ask('/api/rerank', { model: 'm' }, { authorization: 'Bearer llm_k' })).status, 404)
    assert.equal(
      (await at.ask('/api/rerank', { model: 'm' }, { authorization: 'Bearer llm_no' })).status,
      401,
    )
    assert.equal((await at.ask('/api/rerank', { model: 'gone' })).status, 404)
    assert.deepEqual(at.received('a'), [])
    const { headers } = await at.ask('/api/rerank', {
      model: 'alias',
      keep_alive: -1,
      options: { num_gpu: 1 },
    })
    assert.equal(headers.get('x-llamero-adjusted'), 'keep_alive, options.num_gpu')
    assert.match(at.received('a').join(), /\{"model":"m:latest","options":\{\}\}/)
    assert.equal(
      (await at.ask('/api/rerank', { model: 'm', keep_alive: 0 })).status,
      200,
      'nothing there unloads',
    )
    const tools = [{ type: 'web_search' }]
    assert.equal(
      (await at.ask('/v1/rerank', { model: 'm', tools })).headers.get('x-llamero-adjusted'),
      'tools.web_search',
    )
  })

  test('is still none without a model, with another method, or where it could be read in two ways (374)', async () => {
    await using at = await start({ a: { serve: saying('a') } }, { config })
    for (const body of ['{}', '{"prompt":"m"}', '[{"model":"m"}]', 'model=m', ' '])
      assert.equal((await at.ask('/api/rerank', body)).status, 404, body)
    assert.equal((await at.ask('/api/rerank', { model: 'm' }, {}, 'PUT')).status, 404)
    for (const path of ['/api/%72erank', '/v2/x', '/api/x;y', '/metrics', '/api//x'])
      assert.equal((await at.ask(path, { model: 'm' })).status, 404, path)
    assert.equal((await at.ask('/api/rerank', { model: 7 })).status, 400)
    assert.deepEqual(at.received('a'), [])
  })
})
