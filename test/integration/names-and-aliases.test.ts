import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

const keyOf = (token: string, fields: object = {}) =>
  [token, apiKeySchema.parse({ hash: hashToken(token), ...fields })] as const
const routesOf = (routes: Record<string, object>) =>
  new Map(Object.entries(routes).map(([name, spec]) => [name, routeSchema.parse(spec)]))

/** A gateway in front of a gold node and a plain one, both with model `m` in memory. */
async function start(sketch: Omit<NonNullable<Parameters<typeof aSnapshot>[0]>, 'nodes'>) {
  const gold = await startRawNode((socket) => socket.write(rawAnswer('{"by":"gold","done":true}')))
  const plain = await startRawNode((socket) => socket.write(rawAnswer('{"by":"plain","done":true}')))
  const models = ['m:latest', 'other:7b']
  const snapshot: Snapshot = aSnapshot({
    ...sketch,
    nodes: [
      { name: 'gold', url: gold.url, models, loaded: models, labels: { tier: 'gold' } },
      // Faster: without a selector requests go here.
      { name: 'plain', url: plain.url, models, loaded: models, weight: 100 },
    ],
  })
  const gateway = await startGateway(snapshot)
  return {
    gold,
    plain,
    async ask(path: string, body?: object, token?: string) {
      const answer = await fetch(`${gateway.url}${path}`, {
        ...(body && { method: 'POST', body: JSON.stringify(body) }),
        ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
      })
      return { status: answer.status, text: await answer.text() }
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await gold[Symbol.asyncDispose]()
      await plain[Symbol.asyncDispose]()
    },
  }
}
const chat = (model: string) => ({ model, stream: false, messages: [{ role: 'user', content: 'x' }] })

suite('a name without a tag', () => {
  test('in a route matches the model, and the labels of the route are obeyed (331)', async () => {
    for (const model of ['m', 'M', 'library/m', 'm:latest']) {
      await using at = await start({ routes: routesOf({ r: { match: { model }, nodes: { tier: 'gold' } } }) })
      for (const asked of ['m', 'm:latest'])
        assert.match((await at.ask('/api/chat', chat(asked))).text, /"by":"gold"/, model)
      assert.equal(at.plain.received.length, 0)
    }
  })

  test('in a route with labels that no node has is answered 503 and reaches no node (331)', async () => {
    const routes = routesOf({ r: { match: { model: 'm' }, nodes: { tier: 'none' } } })
    await using at = await start({ routes })
    for (const path of ['/api/chat', '/v1/chat/completions', '/api/embed']) {
      const { status, text } = await at.ask(path, chat('m'))
      assert.equal(status, 503, path)
      assert.match(text, /a route lets model 'm:latest' use only some .*: llamero route test m:latest/)
    }
    assert.equal(at.gold.received.length + at.plain.received.length, 0)
  })

  test('in a key and in models covers the model (331)', async () => {
    const keys = new Map([keyOf('llm_some', { models: ['m'] })])
    await using at = await start({ keys, config: { models: [{ match: 'm', num_ctx: 4096 }] } })
    assert.equal((await at.ask('/api/chat', chat('m'), 'llm_some')).status, 200)
    assert.match([...at.gold.received, ...at.plain.received].join(), /"num_ctx":4096/)
    assert.equal((await at.ask('/api/chat', chat('other:7b'), 'llm_some')).status, 404)
    assert.deepEqual(namesIn((await at.ask('/api/tags', undefined, 'llm_some')).text), ['m:latest'])
  })
})

function namesIn(tags: string): string[] {
  return (JSON.parse(tags) as { models: { name: string; digest: string }[] }).models
    .map(({ name }) => name)
    .sort()
}

suite('an alias, the exact name of a route to another model', () => {
  const routes = routesOf({
    a: { match: { model: 'Assistant' }, model: 'm' },
    b: { match: { model: 'web', tenant: 'web' }, model: 'other:7b' },
    c: { match: { model: 'gpt-*' }, model: 'm' },
    d: { match: { model: 'broken' }, model: 'gone' },
    e: { match: { model: 'spare' }, model: 'gone', fallback: ['m'] },
    f: { match: { model: 'm' }, model: 'other:7b' },
  })
  const keys = new Map([
    keyOf('llm_web', { tenant: 'web' }),
    keyOf('llm_few', { models: ['assistant', 'm'] }),
    keyOf('llm_none', { models: ['other*'] }),
  ])

  test('is listed with the models, for callers that may use it (333)', async () => {
    await using at = await start({ routes, keys })
    const listed = async (token?: string) => namesIn((await at.ask('/api/tags', undefined, token)).text)
    const real = ['m:latest', 'other:7b']
    assert.deepEqual(await listed(), ['assistant:latest', ...real, 'spare:latest'])
    assert.deepEqual(await listed('llm_web'), ['assistant:latest', ...real, 'spare:latest', 'web:latest'])
    assert.deepEqual(await listed('llm_few'), ['assistant:latest', 'm:latest'])
    assert.deepEqual(await listed('llm_none'), ['other:7b'])
    const { models } = JSON.parse((await at.ask('/api/tags')).text)
    const [alias, model] = ['assistant:latest', 'm:latest'].map((name) =>
      models.find((each: { name: string }) => each.name === name),
    )
    assert.deepEqual({ ...alias, name: model.name, model: model.model }, model, 'as a copy of its model')
    const { data } = JSON.parse((await at.ask('/v1/models', undefined, 'llm_few')).text)
    assert.deepEqual(data.map(({ id }: { id: string }) => id).sort(), ['assistant:latest', 'm:latest'])
  })

  test('is shown, found by its id, and answers under its name (333)', async () => {
    await using at = await start({ routes, keys })
    assert.equal((await at.ask('/api/show', { model: 'assistant' })).status, 200)
    assert.equal(JSON.parse((await at.ask('/v1/models/assistant')).text).id, 'assistant')
    assert.equal((await at.ask('/api/chat', chat('assistant'))).status, 200)
    assert.equal((await at.ask('/v1/models/web')).status, 404)
    assert.equal((await at.ask('/v1/models/assistant', undefined, 'llm_none')).status, 404)
  })
})
