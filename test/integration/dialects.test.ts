import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

/** The layers of /v1 leave the charset out. */
const json = /^application\/json(; charset=utf-8)?$/
const ndjson = 'application/x-ndjson'
const sse = 'text/event-stream'
const messages = [{ role: 'user', content: 'hello' }]

type Dialect = 'ollama' | 'openai' | 'anthropic'

interface RouteCase {
  readonly path: string
  readonly dialect: Dialect
  readonly model?: string
  readonly body: object
  /** How an absent model is told (docs/ollama.md#answers). */
  readonly absent: string
  /** Fields of a whole answer. */
  readonly fields: readonly string[]
  /** Of a stream: its type, and how its last line that is not empty begins. */
  readonly streamed?: { readonly type: string; readonly last: RegExp }
}

const absent = "model 'unknown' not found"
const notPulled = 'model "unknown" not found, try pulling it first'
const native = { type: ndjson, last: /"done":true/ }
const openai = { type: sse, last: /^data: \[DONE\]$/ }
const embeds = { model: 'embedder', body: { input: 'a', prompt: 'a' } }
/** The paths and answers of docs/ollama.md#answers, one by one. */
const routes: readonly RouteCase[] = [
  {
    path: '/api/chat',
    dialect: 'ollama',
    body: { messages },
    absent,
    fields: ['model', 'created_at', 'message', 'done', 'done_reason', 'eval_count'],
    streamed: native,
  },
  {
    path: '/api/generate',
    dialect: 'ollama',
    body: { prompt: 'hello' },
    absent,
    fields: ['model', 'created_at', 'response', 'done', 'context'],
    streamed: native,
  },
  { path: '/api/embed', dialect: 'ollama', ...embeds, absent: notPulled, fields: ['model', 'embeddings'] },
  { path: '/api/embeddings', dialect: 'ollama', ...embeds, absent: notPulled, fields: ['embedding'] },
  {
    path: '/api/show',
    dialect: 'ollama',
    body: {},
    absent,
    fields: ['details', 'model_info', 'capabilities'],
  },
  {
    path: '/v1/chat/completions',
    dialect: 'openai',
    body: { messages },
    absent,
    fields: ['id', 'object', 'created', 'model', 'system_fingerprint', 'choices', 'usage'],
    streamed: openai,
  },
  {
    path: '/v1/completions',
    dialect: 'openai',
    body: { prompt: 'hello' },
    absent,
    fields: ['id', 'object', 'created', 'model', 'choices', 'usage'],
    streamed: openai,
  },
  {
    path: '/v1/embeddings',
    dialect: 'openai',
    ...embeds,
    absent: notPulled,
    fields: ['object', 'data', 'model'],
  },
  {
    path: '/v1/responses',
    dialect: 'openai',
    body: { input: 'hello' },
    absent,
    fields: ['id', 'object', 'created_at', 'status', 'model', 'output', 'usage'],
    streamed: { type: sse, last: /"type":"response.completed"\}$/ },
  },
  {
    path: '/v1/messages',
    dialect: 'anthropic',
    body: { messages, max_tokens: 64 },
    absent,
    fields: ['id', 'type', 'role', 'model', 'content', 'stop_reason', 'usage'],
    streamed: { type: sse, last: /^data: \{"type":"message_stop"\}/ },
  },
]

suite('every route that a node answers, in its dialect:', () => {
  let node: SimulatedNode
  before(async () => {
    const quick = { loadMs: 1, promptTps: 10_000, decodeTps: 5000 }
    const models = [
      aModel({ ...quick, name: 'chatty:1b' }),
      aModel({ ...quick, name: 'embedder:latest', capabilities: ['embedding'], embedDim: 4 }),
    ]
    node = await SimulatedNode.start({ name: 'a', models, numParallel: 4 })
  })
  after(() => node.stop())

  const fleet = (health: 'up' | 'down' = 'up') => {
    const models = ['chatty:1b', 'embedder:latest']
    // Nobody listens where a node is really down.
    const { url } = health === 'down' ? { url: 'http://127.0.0.1:1' } : node
    return aSnapshot({ nodes: [{ name: 'a', url, models, loaded: models, health }] })
  }
  const ask = async (
    { path, model = 'chatty', body }: RouteCase,
    asked: object,
    sketch: { loopback?: boolean; snapshot?: ReturnType<typeof fleet> } = {},
  ) => {
    await using gateway = await startGateway(sketch.snapshot ?? fleet(), {
      loopback: sketch.loopback ?? true,
    })
    const name = model === 'chatty' ? 'chatty:1b' : model
    const request = {
      method: 'POST',
      body: JSON.stringify({ model: name, stream: false, ...body, ...asked }),
    }
    const response = await fetch(gateway.url + path, request)
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
  const refuses = (
    dialect: Dialect,
    answer: Awaited<ReturnType<typeof ask>>,
    type: string,
    message: RegExp,
  ) => {
    assert.match(answer.headers.get('content-type') ?? '', json)
    assert(answer.headers.has('x-request-id'))
    const told = JSON.parse(answer.text)
    if (dialect === 'ollama') assert.deepEqual(Object.keys(told), ['error'])
    if (dialect === 'openai') {
      assert.deepEqual(Object.keys(told.error), ['message', 'type', 'param', 'code'])
      assert.deepEqual([told.error.type, told.error.param], [type, null])
    }
    if (dialect === 'anthropic') {
      assert.deepEqual(Object.keys(told), ['type', 'error', 'request_id'])
      assert.deepEqual([told.type, told.error.type], ['error', type])
    }
    assert.match(dialect === 'ollama' ? told.error : told.error.message, message)
  }

  for (const route of routes) {
    const { path, dialect } = route
    const busy = dialect === 'anthropic' ? 'overloaded_error' : 'api_error'

    test(`${path} answers whole`, async () => {
      const { status, headers, text } = await ask(route, {})
      assert.equal(status, 200)
      assert.match(headers.get('content-type') ?? '', json)
      const answer = JSON.parse(text)
      for (const field of route.fields) assert(field in answer, `${field} in ${text}`)
      if (path !== '/api/show') {
        assert.equal(headers.get('x-llamero-node'), 'a')
        assert.equal(headers.get('x-llamero-reason'), 'warm')
      }
    })

    const { streamed } = route
    if (streamed)
      test(`${path} streams`, async () => {
        const { status, headers, text } = await ask(route, { stream: true })
        assert.deepEqual([status, headers.get('content-type')], [200, streamed.type])
        assert.match(text.trimEnd().split('\n').at(-1) ?? '', streamed.last)
      })

    test(`${path} tells of an unknown model`, async () => {
      const answer = await ask(route, { model: 'unknown' })
      assert.equal(answer.status, 404)
      refuses(dialect, answer, 'not_found_error', new RegExp(`^${route.absent}$`))
      assert.equal(answer.headers.get('retry-after'), null)
    })

    test(`${path} tells who may not ask`, async () => {
      const answer = await ask(route, {}, { loopback: false })
      assert.equal(answer.status, 403)
      refuses(dialect, answer, 'permission_error', /llamero key create/)
    })

    test(`${path} tells that no node is there, or up`, async () => {
      const none = await ask(route, {}, { snapshot: aSnapshot() })
      assert.equal(none.status, 503)
      refuses(dialect, none, busy, /no Ollama servers are registered/)
      const down = await ask(route, {}, { snapshot: fleet('down') })
      assert.equal(down.status, 503)
      refuses(
        dialect,
        down,
        busy,
        /^no Ollama server that has model .*: a \(refuses connections\); try again/,
      )
      assert.equal(down.headers.get('retry-after'), '5')
    })

    test(`${path} passes on what the last node says of its fault`, async () => {
      const text = 'llama-server process has terminated: exit status 1'
      if (path === '/api/show') node.control.status(500, { error: text }, {}, { times: 1 })
      else node.control.errorLine(0, text, { times: 1 })
      const answer = await ask(route, {})
      // Ollama wraps every failure of an embedding's runner into a 400, which would blame the caller (routes.go:1010).
      assert.equal(answer.status, /embed$|v1.embeddings/.test(path) ? 502 : 500)
      refuses(dialect, answer, 'api_error', /llama-server/)
      assert.equal(answer.headers.get('x-llamero-attempts'), '1')
    })
  }
})
