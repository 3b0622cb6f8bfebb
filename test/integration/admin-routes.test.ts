import assert from 'node:assert/strict'
import { after, afterEach, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { type Instance, startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'

suite('routes in the admin API', () => {
  let instance: Instance
  before(async () => {
    const models = [aModel({ name: 'm:1b', loadMs: 10 })]
    instance = await startInstance({ nodes: 2, slots: 1, models })
  })
  after(() => instance[Symbol.asyncDispose]())
  afterEach(async () => {
    for (const { name } of (await call('GET', 'routes')).body.routes) await call('DELETE', `routes/${name}`)
    await until(() => instance.app.snapshot.get().routes.length === 0, 'the routes are gone', 5000)
  })

  const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${instance.adminUrl}/admin/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text) }
  }
  /** Writes a route and waits until it is in force. */
  async function inForce(name: string, spec: object) {
    assert.ok((await call('PUT', `routes/${name}`, spec)).status < 300)
    await until(
      () => instance.app.snapshot.get().routes.some((route) => route.name === name),
      'the route is in force',
      5000,
    )
  }
  const explain = async (question: object) => (await call('POST', 'routes/test', question)).body

  test('are made, listed, changed and removed', async () => {
    await inForce('chat', { match: { model: 'gpt-*' }, model: 'm:1b' })
    const { body } = await call('GET', 'routes')
    assert.deepEqual(
      [body.routes.length, body.routes[0].name, body.routes[0].in_force.match.model, body.routes[0].ok],
      [1, 'chat', 'gpt-*', true],
    )
    const patched = await call('PATCH', 'routes/chat', { fallback: ['x:1b'], match: { tenant: 'web' } })
    assert.deepEqual([patched.status, patched.body.match], [200, { model: 'gpt-*', tenant: 'web' }])
    assert.equal((await call('PATCH', 'routes/new', { model: 'm:1b' })).status, 201)
    assert.equal((await call('DELETE', 'routes/new')).status, 204)
    assert.equal((await call('DELETE', 'routes/new')).status, 404)
    assert.equal((await call('GET', 'routes/new')).status, 404)
  })

  test('to a model that no node has are warned of in their verdict, until a node has it (331, 332)', async () => {
    await inForce('chat', { match: { model: 'assistant' }, model: 'm2:1b' })
    const warnings = async () => (await call('GET', 'routes/chat')).body.warnings
    await until(async () => (await warnings()).length > 0, 'the verdict warns', 5000)
    assert.deepEqual(await warnings(), ['no node has model "m2:1b"; did you mean "m:1b"?'])
    const key = instance.app.keys.verdict(instance.app.keys.route('chat'))
    const verdict = JSON.parse((await instance.app.store.get(key))?.value ?? '')
    assert.deepEqual([verdict.ok, verdict.warnings.length], [true, 1])
    const { warned } = (await call('GET', 'status')).body.config
    assert.deepEqual(warned, [{ key: instance.app.keys.route('chat'), warnings: verdict.warnings }])
    const ready = async () => (await fetch(`${instance.adminUrl}/readyz?model=assistant`)).status
    assert.equal(await ready(), 503)
    await call('PATCH', 'routes/chat', { model: 'm' })
    await until(async () => (await warnings())[0]?.includes('"m:latest"'), 'the new text is judged', 5000)
    await fetch(`${instance.nodes[0]?.url}/api/copy`, {
      method: 'POST',
      body: JSON.stringify({ source: 'm:1b', destination: 'm' }),
    })
    await until(async () => (await warnings()).length === 0, 'the model is seen', 10_000)
    assert.equal(await ready(), 200, 'an alias is ready when its model is')
  })

  test('keep their text, and are written over what was seen', async () => {
    const text = 'model: m:1b # for now\n'
    assert.equal((await call('PUT', 'routes/chat', { text }, { 'if-none-match': '*' })).status, 201)
    assert.equal((await call('PUT', 'routes/chat', { text }, { 'if-none-match': '*' })).status, 409)
    await until(async () => (await call('GET', 'routes/chat')).body.text === text, 'the text is seen', 5000)
    const { modified } = (await call('GET', 'routes/chat')).body
    assert.equal((await call('PUT', 'routes/chat', { text: 'fallback: []\n' })).status, 200)
    assert.equal((await call('PUT', 'routes/chat', { text }, { 'if-match': modified })).status, 409)
    const wrong = await call('PUT', 'routes/chat', { text: 'modle: a\n' })
    assert.equal(wrong.status, 422)
    assert.match(wrong.body.error.message, /line 1: modle: .*did you mean "model"/)
    assert.equal((await call('PUT', 'routes/a%2fb', { text })).status, 422)
  })

  test('that are rejected stay listed, with the version still in force', async () => {
    await inForce('chat', { match: { model: 'gpt-*' }, model: 'm:1b' })
    const key = instance.app.keys.route('chat')
    await instance.app.store.commit({ when: [], apply: [{ type: 'put', key, value: 'model: 5\n' }] })
    await until(async () => !(await call('GET', 'routes/chat')).body.ok, 'the verdict is no', 5000)
    const { body } = await call('GET', 'routes/chat')
    assert.deepEqual([body.in_force.model, body.text, body.errors[0].line], ['m:1b', 'model: 5\n', 1])
  })

  test('are tested by the code that routes: the model, the nodes, and why', async () => {
    await inForce('chat', { match: { model: 'gpt-*', tenant: 'web' }, model: 'none:1b', fallback: ['m:1b'] })
    const answer = await explain({ model: 'GPT-4', tenant: 'web' })
    assert.deepEqual(
      [answer.asked, answer.route, answer.wanted, answer.model],
      ['gpt-4:latest', 'chat', ['none:1b', 'm:1b'], 'm:1b'],
    )
    assert.equal(answer.choice.reason, 'fallback')
    assert.deepEqual(
      answer.nodes.map((node: { excluded: string | null }) => node.excluded),
      [null, null],
    )
    const other = await explain({ model: 'gpt-4', tenant: 'else' })
    assert.deepEqual([other.route, other.model, other.refusal], [null, null, 'no-model'])
    assert.equal((await call('POST', 'routes/test', { model: '???' })).status, 400)
    assert.equal((await call('POST', 'routes/test', {})).status, 422)
  })

  test('a test names what keeps each node out, and nothing reaches a node', async () => {
    await inForce('zone', { nodes: { zone: 'a' } })
    const labelled = await explain({ model: 'm:1b' })
    assert.deepEqual(
      [labelled.refusal, ...labelled.nodes.map((node: { excluded: string }) => node.excluded)],
      ['down', 'labels', 'labels'],
    )
    await call('DELETE', 'routes/zone')
    await call('PATCH', 'nodes/node-0', { state: 'cordoned' })
    await until(
      async () => (await explain({ model: 'm:1b' })).nodes[0].excluded === 'cordoned',
      'the cordon is seen',
      5000,
    )
    assert.equal((await explain({ model: 'm:1b' })).choice.node, 'node-1')
    const { nodes } = (await call('GET', 'nodes')).body
    assert.ok(nodes.every(({ loaded }: { loaded: string[] }) => loaded.length === 0))
    await call('PATCH', 'nodes/node-0', { state: 'active' })
  })

  test('a test of a path says what its requests would meet, or why they meet nothing', async () => {
    const ask = async (path: string) => (await call('POST', 'routes/test', { model: 'm:1b', path })).body
    assert.equal((await ask('/v1/messages')).path, '/v1/messages')
    assert.equal((await ask('/v1/systemone')).error.code, 'lacks_capability')
    assert.equal((await ask('/v1/nothing')).error.code, 'unknown_path')
    assert.match((await ask('/api/show')).error.message, /not placed by their model/)
    assert.equal((await ask('/api/tags')).error.code, 'method_not_allowed')
  })

  test("a test tells the route's class and the labels it demands; a class that is not there is the default, with a warning", async () => {
    const told = async (question: object) => {
      const { labels, class: named } = await explain({ model: 'm:1b', ...question })
      return [labels, named]
    }
    assert.deepEqual(await told({}), [{}, 'default'])
    assert.deepEqual(await told({ class: 'interactive' }), [{}, 'interactive'], 'of a key')
    await inForce('slow', { class: 'batch', nodes: { zone: 'a' } })
    assert.deepEqual(await told({ class: 'interactive' }), [{ zone: 'a' }, 'batch'])
    await inForce('other', { class: 'none' })
    assert.deepEqual(await told({}), [{}, 'default'])
    const { keys, store } = instance.app
    const verdict = async () =>
      JSON.parse((await store.get(keys.verdict(keys.route('other'))))?.value ?? '{}') as {
        ok?: boolean
        warnings?: string[]
      }
    await until(async () => (await verdict()).warnings !== undefined, 'the verdict warns', 5000)
    const { ok, warnings = [] } = await verdict()
    assert.equal(ok, true)
    assert.match(warnings.join(), /^class "none" is not among the classes of the config/)
    assert.equal((await call('PUT', 'routes/bad', { class: 'a b' })).status, 422)
  })

  test('a test asks for the context that a request would have, and shows where the runner has another', async () => {
    const body = JSON.stringify({ model: 'm:1b', stream: false, options: { num_ctx: 8192 } })
    const sent = await fetch(`${instance.url}/api/generate`, { method: 'POST', body })
    const used = sent.headers.get('x-llamero-node')
    const others = async (question: object) => {
      const { num_ctx, panic, nodes } = await explain({ model: 'm:1b', ...question })
      const other = nodes.filter((node: { other_variant: boolean }) => node.other_variant)
      return [num_ctx, panic, ...other.map((node: { name: string }) => node.name)]
    }
    assert.deepEqual(await others({ num_ctx: 8192 }), [8192, false])
    assert.deepEqual(await others({}), [null, false, used])
    await inForce('chat', { options: { num_ctx: { max: 2048 } } })
    assert.deepEqual(await others({ num_ctx: 8192 }), [2048, false, used])
    assert.deepEqual(await others({ num_ctx: 8192, path: '/api/embed' }), [2048, false, used])
    // A request on /v1 cannot ask for a context, and gets none from a route.
    for (const path of ['/v1/chat/completions', '/v1/messages', '/v1/responses', '/v1/embeddings'])
      assert.deepEqual(await others({ num_ctx: 8192, path }), [null, false, used], path)
    assert.equal((await call('POST', 'routes/test', { model: 'm:1b', num_ctx: 0 })).status, 422)
  })
})
