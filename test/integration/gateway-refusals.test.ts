import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, rawAnswer, startRawNode } from '../support/wire.ts'

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** One request to a gateway over `snapshot`. */
async function ask(snapshot: Snapshot, path: string, init: RequestInit = {}, options = {}): Promise<Answer> {
  await using gateway = await startGateway(snapshot, options)
  const response = await fetch(`${gateway.url}${path}`, init)
  return { status: response.status, headers: response.headers, text: await response.text() }
}

const chat = (model: string) => ({ method: 'POST', body: JSON.stringify({ model, messages: [] }) })
const echoNode = () =>
  startRawNode((socket, bytes) =>
    socket.write(rawAnswer(JSON.stringify({ echo: bytes.split('\r\n\r\n')[1], done: true }))),
  )

suite('a request that cannot be served is told why:', () => {
  test('no nodes at all', async () => {
    const { status, text } = await ask(aSnapshot(), '/api/chat', chat('m'))
    assert.equal(status, 503)
    assert.match(text, /llamero node add NAME http:\/\/HOST:11434/)
  })

  test('nodes, one of them not probed yet and possibly with the model', async () => {
    const fleet = aSnapshot({
      nodes: [
        { name: 'a', health: 'unknown' },
        { name: 'b', models: ['n:latest'] },
      ],
    })
    const clock = new RealClock(0.01)
    const { status, headers, text } = await ask(fleet, '/api/chat', chat('m'), { clock })
    assert.deepEqual([status, headers.get('retry-after')], [503, '1'])
    assert.match(text, /have not been probed yet/)
  })

  test('though not while they are being looked at: then it waits for that', async () => {
    await using node = await echoNode()
    const sketch = { name: 'a', url: node.url, loaded: ['m:latest'] }
    await using gateway = await startGateway(aSnapshot({ nodes: [{ ...sketch, health: 'unknown' }] }))
    const answer = fetch(`${gateway.url}/api/chat`, chat('m'))
    await eventually(() => gateway.pipeline.bodies.heldBytes > 0, 'it has been read')
    gateway.current.swap(aSnapshot({ nodes: [sketch] }))
    assert.equal((await answer).status, 200)
  })

  test('an unknown model, named, in the dialect of the caller', async () => {
    const fleet = aSnapshot({ nodes: [{ name: 'a' }] })
    const native = await ask(fleet, '/api/chat', chat('unknown'))
    assert.deepEqual([native.status, native.text], [404, `{"error":"model 'unknown' not found"}`])
    const openai = await ask(fleet, '/v1/chat/completions', chat('unknown'))
    const { error } = JSON.parse(openai.text) as { error: { message: string; type: string; code: string } }
    assert.deepEqual([error.type, error.code], ['not_found_error', null])
  })

  test('all nodes down, with Retry-After (158)', async () => {
    const { status, headers, text } = await ask(
      aSnapshot({ nodes: [{ name: 'a', health: 'down' }] }),
      '/api/chat',
      chat('m'),
    )
    assert.deepEqual([status, headers.get('retry-after')], [503, '5'])
    assert.match(text, /'m:latest'/)
  })

  test('no model in the body', async () => {
    const { status, text } = await ask(aSnapshot({ nodes: [{ name: 'a' }] }), '/api/chat', {
      method: 'POST',
      body: '{}',
    })
    assert.equal(status, 400)
    assert.match(text, /model is required/)
  })

  test('an unknown path, in the dialect of its prefix', async () => {
    assert.match((await ask(aSnapshot(), '/v1/nothing')).text, /"type":"not_found_error"/)
    assert.match((await ask(aSnapshot(), '/v1/messages/nothing')).text, /^{"type":"error"/)
    assert.match((await ask(aSnapshot(), '/api/nothing')).text, /^{"error":"no such path/)
  })

  test('a caller sees the id of its request, its own when that is well-formed', async () => {
    const own = await ask(aSnapshot(), '/api/nothing', { headers: { 'x-request-id': 'my-request-42' } })
    assert.equal(own.headers.get('x-request-id'), 'my-request-42')
    const odd = await ask(aSnapshot(), '/api/nothing', { headers: { 'x-request-id': '../../etc' } })
    assert.match(odd.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/)
  })
})

suite('keys', () => {
  const token = 'llm_test-token'
  const aKey = (fields = {}) =>
    new Map([['team', apiKeySchema.parse({ hash: hashToken(token), tenant: 'team', ...fields })]])
  const bearer = { headers: { authorization: `Bearer ${token}` } }
  const fleet = (keys = aKey()) =>
    aSnapshot({ nodes: [{ name: 'a', models: ['m:latest', 'secret:latest'] }], keys })
  const outside = { loopback: false }

  test('off loopback a caller without a key is told how to get one', async () => {
    const { status, text } = await ask(fleet(), '/api/tags', {}, outside)
    assert.equal(status, 403)
    assert.match(text, /llamero key create NAME/)
  })

  test('are taken as Bearer and as x-api-key', async () => {
    assert.equal((await ask(fleet(), '/api/tags', bearer, outside)).status, 200)
    assert.equal((await ask(fleet(), '/api/tags', { headers: { 'x-api-key': token } }, outside)).status, 200)
  })

  test('that have expired are told so, with the date and the time it is here; unknown ones are not (311)', async () => {
    const expires = '2020-01-01T00:00:00Z'
    const expired = await ask(fleet(aKey({ expires })), '/api/tags', bearer, outside)
    assert.equal(expired.status, 401)
    assert.match(
      expired.text,
      /expired at 2020-01-01T00:00:00Z; it is 20\d\d-.* by the clock of this instance/,
    )
    const unknown = await ask(fleet(new Map()), '/api/tags', bearer, outside)
    assert.equal(unknown.status, 401)
    assert.doesNotMatch(unknown.text, /expired/)
  })

  test('that may only change things are told which one may ask', async () => {
    const { status, text } = await ask(fleet(aKey({ scopes: ['admin'] })), '/api/tags', bearer, outside)
    assert.equal(status, 403)
    assert.match(text, /only the scope admin.*--scope inference --scope admin/)
  })

  test('that are wrong answer the ollama CLI with 403, whose text it shows', async () => {
    const headers = {
      authorization: 'Bearer llm_wrong',
      'user-agent': 'ollama/0.32.15 (amd64 linux) Go/go1.26',
    }
    assert.equal((await ask(fleet(), '/api/tags', { headers }, outside)).status, 403)
  })

  test('of ours that are wrong are refused on loopback too; foreign ones count as none', async () => {
    assert.equal(
      (await ask(fleet(), '/api/tags', { headers: { authorization: 'Bearer llm_wrong' } })).status,
      401,
    )
    assert.equal(
      (await ask(fleet(), '/api/tags', { headers: { authorization: 'Bearer ollama' } })).status,
      200,
    )
  })

  test('see only the models they cover, and the others as if they did not exist', async () => {
    const limited = fleet(aKey({ models: ['m*'] }))
    const listed = JSON.parse((await ask(limited, '/api/tags', bearer, outside)).text) as {
      models: { name: string }[]
    }
    assert.deepEqual(
      listed.models.map(({ name }) => name),
      ['m:latest'],
    )
    const hidden = await ask(limited, '/api/chat', { ...chat('secret'), ...bearer }, outside)
    const absent = await ask(limited, '/api/chat', { ...chat('absent'), ...bearer }, outside)
    assert.deepEqual(
      [hidden.status, hidden.text.replace('secret', 'X')],
      [absent.status, absent.text.replace('absent', 'X')],
    )
  })

  test('the heartbeat needs none', async () => {
    const { status, text } = await ask(fleet(), '/', {}, outside)
    assert.deepEqual([status, text], [200, 'Ollama is running'])
  })
})

suite('routes', () => {
  const aRoute = (fields: object) => new Map([['r', routeSchema.parse(fields)]])

  test('rewrite the model inside the original bytes', async () => {
    await using node = await echoNode()
    const fleet = aSnapshot({
      nodes: [{ name: 'a', url: node.url }],
      routes: aRoute({ match: { model: 'gpt-*' }, model: 'm' }),
    })
    const body = '{ "messages": [],\n "model" : "GPT-4" , "x": 1.0 }'
    const { text } = await ask(fleet, '/api/chat', { method: 'POST', body })
    assert.equal((JSON.parse(text) as { echo: string }).echo, body.replace('GPT-4', 'm:latest'))
  })

  test('leave the bytes alone when the model stays the same', async () => {
    await using node = await echoNode()
    const body = '{"model":"M","messages":[]}'
    const { text } = await ask(aSnapshot({ nodes: [{ name: 'a', url: node.url }] }), '/api/chat', {
      method: 'POST',
      body,
    })
    assert.equal((JSON.parse(text) as { echo: string }).echo, body)
  })

  test('fall back to another model while no node can serve the first, and say so', async () => {
    await using node = await echoNode()
    const nodes = [
      { name: 'a', models: ['big:latest'], health: 'down' as const },
      { name: 'b', url: node.url, models: ['small:latest'] },
    ]
    const { status, headers, text } = await ask(
      aSnapshot({ nodes, routes: aRoute({ fallback: ['small'] }) }),
      '/api/chat',
      chat('big'),
    )
    assert.deepEqual([status, headers.get('x-llamero-reason')], [200, 'fallback'])
    assert.match(text, /small:latest/)
  })

  test('restrict the nodes by label', async () => {
    await using node = await echoNode()
    const nodes = [
      { name: 'a', url: 'http://127.0.0.1:1' },
      { name: 'b', url: node.url, labels: { gpu: 'big' } },
    ]
    const { headers } = await ask(
      aSnapshot({ nodes, routes: aRoute({ nodes: { gpu: 'big' } }) }),
      '/api/chat',
      chat('m'),
    )
    assert.deepEqual([headers.get('x-llamero-node'), headers.get('x-llamero-attempts')], ['b', '1'])
  })
})

suite('lists', () => {
  test('hold every model once, newest copy first, whatever the nodes do', async () => {
    const fleet = aSnapshot({
      nodes: [
        { name: 'a', models: ['m:latest', 'n:latest'] },
        { name: 'b', models: ['n:latest'], health: 'down' },
      ],
    })
    const { models } = JSON.parse((await ask(fleet, '/api/tags')).text) as { models: { name: string }[] }
    assert.deepEqual(models.map(({ name }) => name).sort(), ['m:latest', 'n:latest'])
  })

  test('an empty /v1/models has data null, as with Ollama', async () => {
    assert.equal((await ask(aSnapshot(), '/v1/models')).text, '{"object":"list","data":null}')
  })

  test('HEAD answers like GET, without a body', async () => {
    const { status, headers, text } = await ask(aSnapshot({ nodes: [{ name: 'a' }] }), '/api/tags', {
      method: 'HEAD',
    })
    assert.deepEqual([status, text], [200, ''])
    assert(Number(headers.get('content-length')) > 0)
  })
})
