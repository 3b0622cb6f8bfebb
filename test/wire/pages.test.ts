import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

// Errors of a proxy in front of a node are not Ollama's, whose errors are JSON with a text.

const page = '<html><head><title>Sorry</title></head><body>nginx</body></html>'
const paths = ['/api/chat', '/v1/chat/completions', '/v1/messages', '/api/embed'] as const

interface Said {
  readonly status: number
  readonly type?: string
  readonly body?: string
}

/** Node a, behind a proxy with this response, and b, which serves if present. */
async function arrange({ status, type = 'text/html', body = page }: Said, withOther = false) {
  let asked = 0
  const proxied = await startRawNode((socket, bytes) => {
    if (!/^(POST|GET)/.test(bytes)) return
    asked++
    socket.write(rawAnswer(body, { status: `${status} Said`, type }))
  })
  const other = await startRawNode((socket) => socket.write(rawAnswer('{"done":true,"embeddings":[]}')))
  const models = ['m:latest', 'gpt-oss:120b-cloud']
  const nodes = [
    { name: 'a', url: proxied.url, models, loaded: models, weight: 50, slots: 8 },
    ...(withOther ? [{ name: 'b', url: other.url, models, loaded: models, slots: 8 }] : []),
  ]
  const gateway = await startGateway(aSnapshot({ nodes, config: { callers: { cloud: 'pass' } } }))
  return {
    gateway,
    asked: () => asked,
    ask: async (path: string = '/api/chat', model = 'm', stream = false) => {
      const answer = await fetch(`${gateway.url}${path}`, {
        method: 'POST',
        body: JSON.stringify({ model, stream, max_tokens: 9, messages: [], input: 'x' }),
      })
      return { status: answer.status, text: await answer.text(), headers: answer.headers }
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await proxied[Symbol.asyncDispose]()
      await other[Symbol.asyncDispose]()
    },
  }
}

/** The error for a page with that status when no other node can answer. */
const told: readonly [status: number, told: number, text: RegExp][] = [
  [200, 502, /not an answer of Ollama/],
  [400, 502, /is not Ollama answered .*\(status 400\)/],
  [401, 502, /refuses llamero, not your key/],
  [403, 502, /refuses llamero, not your key/],
  [404, 502, /is not Ollama answered .*\(status 404\)/],
  [405, 502, /is not Ollama answered .*\(status 405\)/],
  [407, 502, /refuses llamero, not your key/],
  [413, 413, /client_max_body_size/],
  [429, 503, /takes no requests now \(status 429\)/],
  [500, 502, /a proxy in front of it says 500/],
  [502, 502, /a proxy in front of it says 502/],
  [503, 503, /takes no requests now \(status 503\)/],
  [504, 504, /gave up waiting/],
]

suite('a page of a proxy in front of a node', () => {
  for (const [status, told_, text] of told) {
    test(`with status ${status} fails over, and blocks no model (321)`, async () => {
      await using pair = await arrange({ status }, true)
      const answer = await pair.ask()
      assert.deepEqual([answer.status, answer.headers.get('x-llamero-node')], [200, 'b'])
      const { barrier } = pair.gateway.upstreams.availabilityOf('a', 'm:latest')
      assert.equal(barrier, status === 429 ? 'busy' : null, 'its model is not kept away')
    })

    test(`with status ${status} is told with ${told_} in each dialect, without the page (321)`, async () => {
      for (const path of paths) {
        await using alone = await arrange({ status })
        const answer = await alone.ask(path)
        assert.equal(answer.status, told_, `${path}: ${answer.text}`)
        assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
        const said = JSON.parse(answer.text) as { type?: string; error: string | { message: string } }
        const sentence = typeof said.error === 'string' ? said.error : said.error.message
        assert.equal(typeof said.error === 'string', path.startsWith('/api'), path)
        assert.equal(said.type, path === '/v1/messages' ? 'error' : undefined, path)
        assert.match(sentence, text)
        assert(!/<|nginx<|html/i.test(answer.text.replace('a page of HTML', '')), answer.text)
      }
    })
  }

  for (const [status, told_, text] of told.filter(([status]) => status >= 400))
    test(`without any text, with status ${status}, fails over, blocks no model, and is told with ${told_} (321)`, async () => {
      const empty = { status, body: '', type: 'text/plain' }
      await using pair = await arrange(empty, true)
      const answer = await pair.ask()
      assert.deepEqual([answer.status, answer.headers.get('x-llamero-node')], [200, 'b'])
      const { barrier } = pair.gateway.upstreams.availabilityOf('a', 'm:latest')
      assert.equal(barrier, status === 429 || status === 503 ? 'busy' : null, 'its model is not kept away')
      await using alone = await arrange(empty)
      const said = await alone.ask()
      assert.equal(said.status, told_, said.text)
      assert.match((JSON.parse(said.text) as { error: string }).error, text)
    })

  for (const stream of [true, false])
    test(`in JSON that is no answer of Ollama fails over: ${stream ? 'streamed' : 'whole'} (321)`, async () => {
      await using pair = await arrange({ status: 200, type: 'application/json', body: '{"ok":true}' }, true)
      const answer = await pair.ask('/api/chat', 'm', stream)
      assert.deepEqual([answer.status, answer.headers.get('x-llamero-node')], [200, 'b'])
    })

  test('with Retry-After gives an error with Retry-After (321)', async () => {
    await using alone = await arrange({ status: 503 })
    assert.equal((await alone.ask()).headers.get('retry-after'), '5')
  })

  test('that a caller can provoke opens no breaker; one about the way to the node does (321)', async () => {
    for (const [status, state] of [
      [413, 'closed'],
      [400, 'closed'],
      [431, 'closed'],
      [405, 'closed'],
      [406, 'closed'],
      [415, 'closed'],
      [422, 'closed'],
      [451, 'closed'],
      [502, 'open'],
      [404, 'open'],
      [401, 'open'],
    ] as const) {
      await using pair = await arrange({ status }, true)
      for (let n = 0; n < 6; n++) assert.equal((await pair.ask()).status, 200)
      assert.equal(pair.gateway.upstreams.breakerState('a'), state, `${status}`)
    }
  })

  test('is logged once a minute (321)', async () => {
    for (const [status, message] of [
      [401, /node refuses llamero: check its "headers"/],
      [413, /not Ollama: check its URL and the proxy/],
    ] as const) {
      await using pair = await arrange({ status }, true)
      for (let n = 0; n < 3; n++) await pair.ask()
      const warnings = pair.gateway.lines.filter(({ level }) => level === 'warn')
      assert.equal(warnings.length, 1)
      assert.match(warnings[0]?.message ?? '', message)
      assert.deepEqual(warnings[0]?.fields, { node: 'a', status })
    }
  })
})

suite('a demand for credentials', () => {
  const json = 'application/json'

  test('of Ollama, for a model at ollama.com, never looks like the key of the caller (321)', async () => {
    const body = '{"error":"unauthorized","signin_url":"https://ollama.com/connect?name=x"}'
    for (const path of paths.slice(0, 3)) {
      await using alone = await arrange({ status: 401, type: json, body })
      const answer = await alone.ask(path, 'gpt-oss:120b-cloud')
      assert.equal(answer.status, 502, answer.text)
      assert.match(answer.text, /refuses llamero, not your key: 401 unauthorized/)
    }
  })

  test('in the JSON of a proxy fails over, and blocks no model (321)', async () => {
    for (const body of ['{"message":"no API key found"}', '{"error":"Unauthorized"}', '']) {
      await using pair = await arrange({ status: 401, type: json, body }, true)
      assert.equal((await pair.ask()).status, 200)
      assert.equal(pair.gateway.upstreams.availabilityOf('a', 'm:latest').barrier, null)
      await using alone = await arrange({ status: 401, type: json, body })
      assert.equal((await alone.ask()).status, 502)
    }
  })
})

test('an Ollama that is too old for an API fails over, and stays healthy (321)', async () => {
  const said = { status: 404, type: 'text/plain', body: '404 page not found' }
  await using pair = await arrange(said, true)
  for (let n = 0; n < 6; n++) assert.equal((await pair.ask('/v1/messages')).status, 200)
  assert.equal(pair.gateway.upstreams.breakerState('a'), 'closed')
  await using alone = await arrange(said)
  const answer = await alone.ask('/v1/messages')
  assert.equal(answer.status, 404)
  assert.match(answer.text, /too old for \/v1\/messages/)
})
