import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { Endpoint } from '../../lib/api/endpoint.ts'
import { endpoints } from '../../lib/api/endpoints.ts'
import { errorAnswer } from '../../lib/api/error.ts'
import { jsonOf } from '../../lib/api/openapi.ts'
import { type Instance, startInstance } from '../support/instance.ts'
import { eventually } from '../support/wire.ts'

type Id = keyof typeof endpoints

interface Call {
  readonly params?: Readonly<Record<string, string>>
  readonly query?: string
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
}

interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}
interface Operation {
  readonly operationId: string
  readonly responses: Readonly<Record<string, { readonly description: string }>>
}

const model = 'llama3.2:3b'

suite('the admin API of a whole instance', () => {
  let instance: Instance
  /** What the parameters of a path are replaced with. */
  const samples: Partial<Record<Id, Readonly<Record<string, string>>>> = {}
  const callers = new AbortController()

  before(async () => {
    instance = await startInstance({ nodes: 1, slots: 1 })
  })
  after(async () => {
    callers.abort()
    await instance[Symbol.asyncDispose]()
  })

  const send = async (id: Id, { params = samples[id] ?? {}, query = '', body, headers = {} }: Call = {}) => {
    const { method, path }: Endpoint = endpoints[id]
    const target = path.replaceAll(/:(\w+)/g, (_, name) =>
      encodeURIComponent(params[name] ?? assert.fail(`${id} has no sample of "${name}"`)),
    )
    const response = await fetch(`${instance.adminUrl}${target}${query}`, {
      method: method.toUpperCase(),
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json', ...headers },
      ...(body && method !== 'get' && { body: JSON.stringify(body) }),
    })
    return {
      status: response.status,
      text: await response.text(),
      type: response.headers.get('content-type'),
    }
  }

  /** Calls an operation, and asserts that its answer is what its schema says, with not one field besides. */
  const call = async (id: Id, given?: Call) => {
    const { answer, statuses = [200] }: Endpoint = endpoints[id]
    const { status, text, type } = await send(id, given)
    assert.ok(statuses.includes(status), `${id} answered ${status}: ${text}`)
    if (answer === null) return assert.equal(text, '')
    const schema = jsonOf(answer)
    if (schema === null) return assert.match(type ?? '', /^text\/plain/)
    const body = JSON.parse(text)
    assert.deepEqual(schema.parse(body), body, id)
    return body
  }

  /** Looks again until an operation answers what is waited for. */
  const until = (what: string, holds: () => Promise<boolean>) => eventually(holds, what, 10_000)

  /** A request that is answered for as long as the tests last, and one that waits for its slot. */
  const chat = () =>
    fetch(`${instance.url}/api/generate`, {
      method: 'POST',
      body: JSON.stringify({ model, prompt: 'hi', options: { x_fake: { outTokens: 100_000 } } }),
      signal: callers.signal,
    }).catch(() => null)

  test('answers every change by its schema', async () => {
    const name = 'other'
    const node = { url: 'http://127.0.0.1:9', labels: { a: '1' } }
    await call('writeNode', { params: { name }, body: node })
    await call('writeNode', { params: { name }, body: { ...node, memory: 1, keep_alive: '5m' } })
    await call('changeNode', { params: { name }, body: { state: 'cordoned', headers: { 'x-a': 'b' } } })
    await call('removeNode', { params: { name } })

    await call('writeRoute', { params: { name: 'alias' }, body: { match: { model: 'gpt-4o' }, model } })
    await call('changeRoute', { params: { name: 'alias' }, body: { options: { num_ctx: { max: 8192 } } } })
    await call('writeRoute', { params: { name: 'gone' }, body: {} })
    await call('removeRoute', { params: { name: 'gone' } })
    await call('testRoute', { body: { model: 'gpt-4o' } })
    await call('testRoute', { body: { model: 'unknown', num_ctx: 4096 } })

    await call('createKey', { body: { id: 'web', scopes: ['admin'], options: { num_predict: 100 } } })
    await call('createKey', { body: { id: 'gone', expires: '2020-01-01T00:00:00Z', class: 'batch' } })
    await call('revokeKey', { params: { id: 'gone' } })

    const { modified } = await call('readConfig')
    await call('writeConfig', { body: { text: 'queue: {}\n' }, headers: { 'if-match': modified } })
    await call('changeConfig', { body: { queue: { max_length: 10 } }, query: '?dry_run=true' })
    await call('changeConfig', { body: { queue: { max_length: 10 } } })
    await call('validateDocument', { body: { text: 'quue: {}' } })

    const { job } = await call('copyModel', { body: { model, destination: 'copy:latest' } })
    samples.readJob = { id: job }
    await until('the copy is made', async () => (await call('readJob')).state === 'done')
    await call('deleteModel', { body: { model: 'copy:latest', nodes: ['node-0'] } })
    await call('cancelJob', { params: { id: job } })
    // A leader that drains hands over: this comes last.
    await call('drain', { params: { id: 'test' } })
    await call('undrain', { params: { id: 'test' } })
  })

  test('answers every read by its schema, with documents of each kind stored', async () => {
    const { app } = instance
    const text = 'match: {modle: x}\n'
    await app.store.commit({ when: [], apply: [{ type: 'put', key: app.keys.route('bad'), value: text }] })
    void chat()
    await until('the model is loaded', async () => (await call('listLoadedModels')).loaded.length === 1)
    void chat()
    const waiting = () => call('listQueue').then((queue) => queue.waiting)
    await until('a request waits', async () => (await waiting()).length === 1)
    const bad = () => call('readRoute', { params: { name: 'bad' } })
    await until('a document is rejected', async () => (await bad()).errors.length > 0)
    Object.assign(samples, {
      readNode: { name: 'node-0' },
      readModel: { name: 'gpt-4o' },
      readRoute: { name: 'alias' },
      readWaiting: { id: (await waiting())[0].id },
    })

    const answers: Partial<Record<Id, object>> = {}
    for (const id in endpoints)
      if (endpoints[id as Id].method === 'get') answers[id as Id] = await call(id as Id)
    // A schema is not tested by an empty list.
    for (const [id, field] of [
      ['listNodes', 'nodes'],
      ['listModels', 'models'],
      ['listLoadedModels', 'loaded'],
      ['listJobs', 'jobs'],
      ['listKeys', 'keys'],
      ['listRoutes', 'routes'],
      ['listInstances', 'instances'],
      ['listQueue', 'waiting'],
      ['listDecisions', 'decisions'],
    ] as const)
      assert.notEqual((answers[id] as Record<string, unknown[]>)[field]?.length, 0, id)
    await call('cancelWaiting', { params: samples.readWaiting ?? {} })
  })

  test('refuses with the codes and statuses that the OpenAPI document lists', async () => {
    const document: OpenApi = await call('readOpenApi')
    const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
    const checkListed = (id: Id, { status, text }: { readonly status: number; readonly text: string }) => {
      const { error } = errorAnswer.parse(JSON.parse(text))
      const listed = operations.find(({ operationId }) => operationId === id)?.responses[status]
      assert.match(listed?.description ?? '', new RegExp(`\\b${error.code}\\b`), `${id}: ${status} ${text}`)
    }
    const refusals: readonly [id: Id, status: number, given: Call][] = [
      ['readNode', 404, { params: { name: 'none' } }],
      ['writeNode', 400, { params: { name: 'a' }, body: [] }],
      ['writeNode', 422, { params: { name: 'a' }, body: { url: 'ftp://x' } }],
      ['changeNode', 404, { params: { name: 'none' }, body: {} }],
      ['removeNode', 422, { params: { name: '/' } }],
      ['readModel', 404, { params: { name: 'none' } }],
      ['pullModel', 422, { body: { model: 'x', nodse: [] } }],
      ['pullModel', 400, { body: [] }],
      ['createKey', 400, { body: [] }],
      ['pullModel', 422, { body: { model: 'x' }, query: '?dry_run=true' }],
      ['removeNode', 422, { params: { name: 'a' }, query: '?dry_run=true' }],
      ['changeConfig', 422, { body: {}, query: '?dry_run=1' }],
      ['copyModel', 404, { body: { model: 'none', destination: 'x' } }],
      ['createKey', 422, { body: { id: 'a', scope: 'admin' } }],
      ['createKey', 409, { body: { id: 'web' } }],
      ['writeConfig', 400, { body: { text: '' } }],
      ['writeConfig', 409, { body: { text: '{}' }, headers: { 'if-match': '1' } }],
      ['acceptStore', 409, {}],
      ['stepDown', 409, { params: { id: 'test' }, body: { to: 'test' } }],
      ['stepDown', 404, { params: { id: 'none' } }],
      ['testRoute', 422, { body: {} }],
      ['listQueue', 422, { query: '?limit=0' }],
      ['readNode', 401, { params: { name: 'x' }, headers: { authorization: 'Bearer x', via: '1.1 proxy' } }],
    ]
    for (const [id, expected, given] of refusals) {
      const refusal = await send(id, given)
      assert.equal(refusal.status, expected, `${id}: ${refusal.text}`)
      checkListed(id, refusal)
    }
    // What does not exist, bodies that say nothing, and a caller without a token, of every operation.
    const params = { name: 'none', id: 'none' }
    const attempts: readonly Call[] = [
      { params },
      { params, body: {} },
      { params, body: [] },
      { params, query: '?limit=x' },
      { params, headers: { authorization: 'Bearer x', via: '1.1 proxy' } },
    ]
    for (const id in endpoints) {
      for (const attempt of attempts) {
        const answer = await send(id as Id, attempt)
        if (answer.status >= 400 && answer.text.startsWith('{')) checkListed(id as Id, answer)
      }
    }
  })
})
