import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { startInstance } from '../support/instance.ts'

const model = aModel({ name: 'm', loadMs: 10, decodeTps: 0 })

/** A gateway in front of one simulated node that has the model loaded. */
async function gatewayOver(sketch: Partial<Parameters<typeof aSnapshot>[0]> = {}) {
  const node = await SimulatedNode.start({ name: 'a', models: [model], numParallel: 4 })
  const snapshot: Snapshot = aSnapshot({
    ...sketch,
    nodes: [{ name: 'a', url: node.url, slots: 4, loaded: ['m:latest'] }],
  })
  const gateway = await startGateway(snapshot)
  return {
    node,
    async ask(path: string, body: object | string, headers: Record<string, string> = {}) {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      const answer = await fetch(`${gateway.url}${path}`, { method: 'POST', body: text, headers })
      return { status: answer.status, headers: answer.headers, text: await answer.text() }
    },
    /** The body of the last request that asked for more than to load the model. */
    forwarded: () =>
      node.requests.findLast(({ rawHeaders }) => !rawHeaders.includes('llamero-load'))?.rawBody.toString(),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await node.stop()
    },
  }
}

suite("a caller's options", () => {
  test('are changed by the policy of the cluster, and the answer says how', async () => {
    const config = {
      callers: { num_predict: 5 },
      models: [
        { match: 'm*', num_ctx: 8192 },
        { match: '*', num_ctx: 1 },
      ],
    }
    await using at = await gatewayOver({ config })
    const body =
      '{"model":"m","stream":false,"keep_alive":"9m","options":{"num_gpu":1,"seed":9007199254740993},"messages":[]}'
    const { status, headers } = await at.ask('/api/chat', body)
    assert.equal(status, 200)
    assert.equal(
      headers.get('x-llamero-adjusted'),
      'keep_alive, options.num_gpu, options.num_ctx=8192, options.num_predict=5',
    )
    assert.equal(
      at.forwarded(),
      '{"model":"m","stream":false,"options":{"num_ctx":8192,"num_predict":5,"seed":9007199254740993},"messages":[]}',
    )
    const openai = await at.ask('/v1/chat/completions', {
      model: 'm',
      max_tokens: 9,
      messages: [{ role: 'user', content: 'hello' }],
    })
    assert.equal(openai.headers.get('x-llamero-adjusted'), 'max_tokens=5')
    assert.match(at.forwarded() ?? '', /"max_tokens":5,/)
  })

  test('go through as they are when nothing has to change, without a header', async () => {
    await using at = await gatewayOver()
    const body =
      '{ "model" : "m", "stream":false, "options":{"seed":9007199254740993, "top_p":1.0}, "messages":[] }'
    const { status, headers } = await at.ask('/api/chat', body)
    assert.deepEqual([status, headers.has('x-llamero-adjusted'), at.forwarded()], [200, false, body])
  })

  test('follow the route before the list of models, for the model that answers', async () => {
    const route = routeSchema.parse({
      match: { model: 'alias*' },
      model: 'm',
      options: { num_ctx: { max: 2048 } },
    })
    await using at = await gatewayOver({
      routes: new Map([['r', route]]),
      config: { models: [{ match: 'm:latest', num_ctx: 4096 }] },
    })
    await at.ask('/api/chat', { model: 'alias', stream: false, messages: [], options: { num_ctx: 9000 } })
    assert.deepEqual(JSON.parse(at.forwarded() ?? ''), {
      model: 'm:latest',
      stream: false,
      messages: [],
      options: { num_ctx: 2048 },
    })
  })

  test('that take a right are refused in the dialect of the caller, and no node hears of them', async () => {
    await using at = await gatewayOver()
    const unload = await at.ask('/api/generate', { model: 'm', keep_alive: 0 })
    assert.deepEqual(
      [unload.status, unload.headers.get('content-type')],
      [403, 'application/json; charset=utf-8'],
    )
    assert.match(JSON.parse(unload.text).error, /field "keep_alive" is refused: .*the scope admin/)
    assert.equal((await at.ask('/api/chat', { model: 'm', _debug_render_only: true })).status, 403)
    assert.equal((await at.ask('/api/chat', '{"model":"m","Keep_Alive":0}')).status, 400)
    const openai = await at.ask('/v1/chat/completions', { model: 'gpt-oss:120b-cloud' })
    assert.equal(openai.status, 403)
    assert.match(JSON.parse(openai.text).error.message, /runs at ollama\.com/)
    const anthropic = await at.ask('/v1/messages', { model: 'm:cloud', max_tokens: 1 })
    assert.deepEqual([anthropic.status, JSON.parse(anthropic.text).error.type], [403, 'permission_error'])
    assert.equal((await at.ask('/api/chat', { model: 'm-cloud' })).status, 404, 'only a tag says so')
    assert.equal(at.node.requests.length, 0)
  })

  test('that ask for tools of the server are taken out, unless the key says otherwise (353)', async () => {
    const keys = new Map([
      ['a', apiKeySchema.parse({ hash: hashToken('llm_pass'), options: { server_tools: 'pass' } })],
      ['b', apiKeySchema.parse({ hash: hashToken('llm_refuse'), options: { server_tools: 'refuse' } })],
    ])
    await using at = await gatewayOver({ keys })
    const tools = [
      { type: 'web_search_20250305', name: 'web_search' },
      { name: 'f', input_schema: { type: 'object' } },
    ]
    const messages = [{ role: 'user', content: 'x' }]
    const ask = (token?: string) =>
      at.ask(
        '/v1/messages',
        { model: 'm', max_tokens: 5, messages, tools },
        token === undefined ? {} : { authorization: `Bearer ${token}` },
      )
    const stripped = await ask()
    assert.deepEqual(
      [stripped.status, stripped.headers.get('x-llamero-adjusted')],
      [200, 'tools.web_search_20250305'],
    )
    assert.deepEqual(JSON.parse(at.forwarded() ?? '').tools, tools.slice(1))
    assert.equal((await ask('llm_pass')).headers.has('x-llamero-adjusted'), false)
    assert.deepEqual(JSON.parse(at.forwarded() ?? '').tools, tools)
    const refused = await ask('llm_refuse')
    assert.deepEqual([refused.status, JSON.parse(refused.text).error.type], [403, 'permission_error'])
  })

  test('are judged by the key: its own fields first, and its scope (73)', async () => {
    const key = (token: string, fields: object) =>
      [token, apiKeySchema.parse({ hash: hashToken(token), ...fields })] as const
    const keys = new Map([
      key('llm_admin', { scopes: ['inference', 'admin'] }),
      key('llm_own', { options: { keep_alive: 'caller', cloud: 'pass' } }),
    ])
    await using at = await gatewayOver({ keys, config: { callers: { raw: 'refuse' } } })
    const by = (token: string, fields: object) =>
      at.ask(
        '/api/generate',
        { model: 'm', prompt: 'x', stream: false, ...fields },
        { authorization: `Bearer ${token}` },
      )
    const kept = await by('llm_own', { keep_alive: '7m' })
    assert.deepEqual([kept.status, kept.headers.has('x-llamero-adjusted')], [200, false])
    const pinned = await by('llm_own', { keep_alive: -1 })
    assert.deepEqual([pinned.status, pinned.headers.get('x-llamero-adjusted')], [200, 'keep_alive'])
    assert.equal(
      (await by('llm_own', { raw: true })).status,
      403,
      'what it does not say is as the cluster says',
    )
    assert.equal((await by('llm_own', { model: 'm:cloud' })).status, 404)
    assert.equal((await by('llm_admin', { keep_alive: 0 })).status, 200)
    assert.match(at.forwarded() ?? '', /"keep_alive":0/)
  })
})

suite('variants of a model', () => {
  test('that alternate under load each have a node of their own, and no busy runner is loaded again', async () => {
    const models = [aModel({ name: 'm', loadMs: 50, decodeTps: 400, text: 'word '.repeat(20) })]
    await using instance = await startInstance({ nodes: 2, slots: 2, models })
    const ask = async (n: number) => {
      const options = n % 2 === 0 ? { temperature: 0 } : { num_ctx: 8192 }
      const body = JSON.stringify({ model: 'm', stream: false, prompt: `question ${n}`, options })
      const answer = await fetch(`${instance.url}/api/generate`, { method: 'POST', body })
      return `${answer.status} ${n % 2} ${answer.headers.get('x-llamero-node')} ${await answer.text().then(() => '')}`
    }
    let next = 0
    const seen = new Set<string>()
    const caller = async () => {
      while (next < 90) seen.add(await ask(next++))
    }
    await Promise.all(Array.from({ length: 7 }, caller))
    assert.equal(seen.size, 2, [...seen].join('; '))
    assert.ok([...seen].every((answer) => answer.startsWith('200 ')))
    assert.deepEqual(
      instance.nodes.map((node) => [node.stats().loads, node.stats().reloads]),
      [
        [1, 0],
        [1, 0],
      ],
    )
    assert.equal(new Set([...seen].map((answer) => answer.split(' ')[2])).size, 2)
  })
})
