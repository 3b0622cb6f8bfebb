import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import type { EstimateAnswer } from '../../lib/api/estimate.ts'
import type { RouteTestAnswer } from '../../lib/api/route-test.ts'
import type { RouteAnswer } from '../../lib/api/routes.ts'
import { aCandidate, fakeAdmin, llamero, refusal } from '../support/cli.ts'

const routes: { routes: RouteAnswer[] } = {
  routes: [
    {
      name: 'chat',
      in_force: { match: { model: 'gpt-*', tenant: 'web' }, model: 'qwen3', fallback: ['a', 'b'], nodes: {} },
      text: '',
      modified: '1',
      ok: false,
      errors: [],
      warnings: [],
    },
    {
      name: 'zone',
      in_force: { match: { model: '*' }, fallback: [], nodes: { zone: 'a' }, class: 'batch' },
      text: '',
      modified: '2',
      ok: true,
      errors: [],
      warnings: [],
    },
    { name: 'zzz', in_force: null, text: 'x', modified: '3', ok: false, errors: [], warnings: [] },
  ],
}

test('route list and key list print the warnings of verdicts (332)', async (t) => {
  const [route] = routes.routes
  const { url } = await fakeAdmin(t, {
    'GET /routes': { body: { routes: [{ ...route, warnings: ['no node has model "x"'] }] } },
    'GET /keys': {
      body: {
        keys: [{ id: 'ci', tenant: 't', scopes: [], models: [], expires: null, warnings: ['models "y"'] }],
      },
    },
  })
  assert.equal((await llamero('route list', { url })).err, 'warning: route chat: no node has model "x"\n')
  assert.equal((await llamero('key list', { url })).err, 'warning: key ci: models "y"\n')
})

test('route list shows routes in force and rejected ones', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /routes': { body: routes } })
  const { code, out } = await llamero('route list', { url })
  assert.equal(code, 0)
  assert.equal(
    out,
    [
      'NAME  MATCH  TENANT  MODEL  FALLBACK  NODES   CLASS  STORED',
      'chat  gpt-*  web     qwen3  a, b      -       -      rejected, former in force',
      'zone  *      -       -      -         zone=a  batch  ok',
      'zzz   -      -       -      -         -       -      rejected',
      '',
    ].join('\n'),
  )
  assert.deepEqual(parse((await llamero('route ls -o yaml', { url })).out), routes)
  const empty = await fakeAdmin(t, { 'GET /routes': { body: { routes: [] } } })
  assert.match((await llamero('route list', { url: empty.url })).err, /hint: llamero route set/)
})

test('route set sends only the given fields, and an empty value removes one', async (t) => {
  const written = { name: 'chat', match: { model: 'gpt-*' } }
  const { url, received } = await fakeAdmin(t, { 'PATCH /routes/chat': { body: written } })
  const line =
    'route set chat match.model=gpt-* match.tenant= model=qwen3 fallback=a,b nodes.zone=a class=batch'
  const { code, err } = await llamero(line, { url })
  assert.deepEqual([code, err], [0, 'chat: written; it matches gpt-*\n  hint: llamero route test MODEL\n'])
  assert.deepEqual(received[0]?.body, {
    match: { model: 'gpt-*', tenant: null },
    model: 'qwen3',
    fallback: ['a', 'b'],
    nodes: { zone: 'a' },
    class: 'batch',
  })
  assert.deepEqual(JSON.parse((await llamero(`${line} -o json`, { url })).out), written)
})

test('a route the API finds invalid is exit code 6', async (t) => {
  const { url } = await fakeAdmin(t, {
    'PATCH /routes/chat': refusal(422, 'invalid', 'model: must not be empty'),
  })
  const { code, err } = await llamero('route set chat model=x', { url })
  assert.deepEqual([code, err], [6, 'error: model: must not be empty\n'])
})

type TestedNode = RouteTestAnswer['nodes'][number]

function aTestedNode(given: Partial<TestedNode> & { name: string }): TestedNode {
  return {
    excluded: null,
    loaded: true,
    other_variant: false,
    running: 0,
    slots: 4,
    weight: 1,
    health: 'up',
    health_reason: '',
    ...given,
  }
}

function aTest(given: Partial<RouteTestAnswer>): RouteTestAnswer {
  return {
    asked: 'gpt-4:latest',
    tenant: 'web',
    route: 'chat',
    wanted: ['qwen3:8b', 'llama3:latest'],
    labels: {},
    class: 'default',
    model: 'qwen3:8b',
    num_ctx: null,
    panic: false,
    nodes: [
      aTestedNode({ name: 'gpu-a', running: 1 }),
      aTestedNode({ name: 'gpu-b', loaded: false }),
      aTestedNode({ name: 'gpu-c', loaded: false, excluded: 'breaker' }),
      aTestedNode({ name: 'gpu-d', loaded: false, excluded: 'no-model' }),
    ],
    choice: { node: 'gpu-a', reason: 'warm' },
    refusal: null,
    ...given,
  }
}

test('route test explains each node and the choice', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'POST /routes/test': { body: aTest({}) } })
  const { code, out, err } = await llamero('route test gpt-4 --tenant web', { url })
  assert.deepEqual([code, err], [0, ''])
  assert.deepEqual(received[0]?.body, { model: 'gpt-4', tenant: 'web' })
  assert.equal(
    out,
    [
      'asked   gpt-4:latest, by tenant web',
      'route   chat',
      'models  qwen3:8b, then llama3:latest',
      'model   qwen3:8b',
      'class   default',
      'NODE   VERDICT   WHY                      RUNNING  WEIGHT',
      'gpu-a  chosen    has the model loaded         1/4       1',
      'gpu-b  possible  has the model on disk        0/4       1',
      'gpu-c  excluded  breaker open                 0/4       1',
      'gpu-d  excluded  does not have the model      0/4       1',
      'choice  gpu-a (warm); nothing was sent',
      '',
    ].join('\n'),
  )
  assert.deepEqual(JSON.parse((await llamero('route test gpt-4 -o json', { url })).out), aTest({}))
})

test('route test marks slow nodes, and shows why a node is down', async (t) => {
  const nodes = [
    aTestedNode({ name: 'a', health: 'slow', health_reason: '3 probes in a row: no answer within 1000 ms' }),
    aTestedNode({ name: 'b', excluded: 'down', health: 'down', health_reason: 'connect ECONNREFUSED' }),
  ]
  const { url } = await fakeAdmin(t, { 'POST /routes/test': { body: aTest({ nodes, choice: null }) } })
  const { out } = await llamero('route test gpt-4', { url })
  assert.match(out, /^a +possible +has the model loaded; slow: 3 probes in a row: no answer within 1000 ms /m)
  assert.match(out, /^b +excluded +down: connect ECONNREFUSED /m)
})

test('route test shows a fallback, the labels that the route requires, and the class', async (t) => {
  const body = aTest({ model: 'llama3:latest', labels: { zone: 'a' }, class: 'batch' })
  const { url, received } = await fakeAdmin(t, { 'POST /routes/test': { body } })
  const { out } = await llamero('route test --model gpt-4 --class interactive', { url })
  assert.deepEqual(received[0]?.body, { model: 'gpt-4', class: 'interactive' })
  assert.match(out, /^model +llama3:latest, because no node can serve qwen3:8b now$/m)
  assert.match(out, /^nodes +those labelled zone=a\nclass +batch$/m)
})

test('route test takes a context size, and explains an excluded node with another variant and the panic mode', async (t) => {
  const nodes = [
    aTestedNode({ name: 'a', running: 1, excluded: 'variant' }),
    aTestedNode({ name: 'b', running: 1, other_variant: true }),
  ]
  const body = aTest({ num_ctx: 8192, panic: true, nodes, choice: { node: 'b', reason: 'cold-load' } })
  const { url, received } = await fakeAdmin(t, { 'POST /routes/test': { body } })
  const { code, out } = await llamero('route test --model gpt-4 --num-ctx 8192', { url })
  assert.deepEqual([code, received[0]?.body], [0, { model: 'gpt-4', num_ctx: 8192 }])
  assert.match(out, /^num_ctx +8192$/m)
  const onV1 = await fakeAdmin(t, { 'POST /routes/test': { body: aTest({ path: '/v1/messages' }) } })
  const asked = await llamero('route test gpt-4 --path /v1/messages', { url: onV1.url })
  assert.deepEqual(onV1.received[0]?.body, { model: 'gpt-4', path: '/v1/messages' })
  assert.match(asked.out, /^asked +gpt-4:latest, by tenant web, on \/v1\/messages$/m)
  assert.match(out, /^panic +most nodes that have the model are unhealthy/m)
  assert.match(out, /^a +excluded +its runner of the model is in use with other options /m)
  assert.match(out, /^b +chosen +has the model loaded with other options /m)
  assert.equal((await llamero('route test gpt-4 --num-ctx 0', { url })).code, 2)
  assert.equal((await llamero('route test', { url })).code, 2)
  assert.equal((await llamero('route test a --model b', { url })).code, 2)
})

test('route test shows the cost of each node, what a request would wait for and when it would start', async (t) => {
  const full = aCandidate({ state: 'full', start_seconds: 1.25, cost_seconds: 2 })
  const estimate: EstimateAnswer = {
    waits_for: 'slot',
    starts_in_seconds: 1.25,
    places: 1,
    candidates: [full],
  }
  const body = aTest({ choice: null, refusal: 'full', estimate })
  const { url } = await fakeAdmin(t, { 'POST /routes/test': { body } })
  const { code, out } = await llamero('route test gpt-4', { url })
  assert.equal(code, 0)
  assert.ok(
    out.endsWith(
      [
        '',
        'NODE   STATE         START  PREFILL  DECODE  OTHERS  EVICTION   COST',
        'gpu-a  no slot free  1.25s    0.00s   0.00s   0.00s     0.00s  2.00s',
        '',
        'choice  none yet: the request would wait for a slot',
        'start   in 1.3s, when it has a slot',
        '',
      ].join('\n'),
    ),
    out,
  )
  const refused = aTest({ choice: null, refusal: 'full', estimate: { ...estimate, refused: 'no-capacity' } })
  const over = await fakeAdmin(t, { 'POST /routes/test': { body: refused } })
  assert.match(
    (await llamero('route test gpt-4', { url: over.url })).out,
    /^choice {2}none\nstart {3}none: refused at once, because it would wait longer than its class may \(503\)$/m,
  )
  const atOnce = { waits_for: null, starts_in_seconds: 0, places: 0, candidates: [] }
  const idle = await fakeAdmin(t, { 'POST /routes/test': { body: aTest({ estimate: atOnce }) } })
  assert.match((await llamero('route test gpt-4', { url: idle.url })).out, /^start {3}at once$/m)
})

const refusals: readonly [refusal: RouteTestAnswer['refusal'], exit: number, said: RegExp][] = [
  ['full', 0, /choice {2}none yet: the request would wait for a slot/],
  ['down', 7, /error: no node can serve qwen3:8b now/],
  ['no-model', 3, /error: no node has qwen3:8b or llama3:latest/],
]
for (const [because, exit, said] of refusals) {
  test(`route test of a request that finds no node (${because}) ends as exit code ${exit}`, async (t) => {
    const body = aTest({ choice: null, refusal: because })
    const { url } = await fakeAdmin(t, { 'POST /routes/test': { body } })
    const { code, out, err } = await llamero('route test gpt-4', { url })
    assert.equal(code, exit)
    assert.match(out + err, said)
  })
}

test('route remove asks, and suggests a similar name', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /routes': { body: routes },
    'DELETE /routes/chat': { status: 204 },
    'DELETE /routes/chta': refusal(404, 'not_found', 'no route named "chta"'),
  })
  assert.equal((await llamero('route remove chat', { url, typed: 'n\n' })).code, 1)
  assert.equal(received.length, 0)
  const removed = await llamero('route rm chat -y', { url })
  assert.deepEqual([removed.code, removed.err], [0, 'chat: removed\n'])
  const missing = await llamero('route remove chta -y', { url })
  assert.equal(missing.code, 3)
  assert.match(missing.err, /did you mean "chat"\?/)
})
