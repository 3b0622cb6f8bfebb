import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Ollama } from 'ollama'
import { routeSchema } from '../../lib/fleet/config.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, rawAnswer, startRawNode } from '../support/wire.ts'

const model = aModel({ name: 'm:latest', loadMs: 1, decodeTps: 200 })
const other = aModel({ name: 'other:latest', loadMs: 1 })
const config = { auth: { addresses: [{ cidr: ['127.0.0.0/8'], scopes: ['admin', 'inference'] }] } }

/** Three nodes that have both models in memory; what the gateway knows of the third is that both are on its disk. */
async function fleet() {
  const start = (name: string) => SimulatedNode.start({ name, models: [model, other] })
  const nodes = await Promise.all(['a', 'b', 'c'].map(start))
  for (const { url } of nodes)
    for (const { name } of [model, other]) await post(`${url}/api/generate`, { model: name })
  const models = [model.name, other.name]
  const gateway = await startGateway(
    aSnapshot({
      config,
      nodes: [
        { name: 'a', url: nodes[0]?.url ?? '', models, loaded: models },
        { name: 'b', url: nodes[1]?.url ?? '', models, loaded: models, state: 'cordoned' },
        { name: 'c', url: nodes[2]?.url ?? '', models },
        { name: 'gone', models, loaded: models, health: 'down' },
      ],
    }),
  )
  return {
    nodes,
    gateway,
    inMemory: () => Promise.all(nodes.map(inMemory)),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of nodes) await node.stop()
    },
  }
}

const post = (url: string, body: object) => fetch(url, { method: 'POST', body: JSON.stringify(body) })

async function inMemory({ url }: SimulatedNode): Promise<string[]> {
  const answer = (await (await fetch(`${url}/api/ps`)).json()) as { models: { name: string }[] }
  return answer.models.map(({ name }) => name)
}

suite('a request that only unloads a model, of a caller who may', () => {
  for (const [path, body, expected] of [
    ['/api/generate', { prompt: '' }, { model: 'M', response: '', done: true, done_reason: 'unload' }],
    ['/api/chat', { messages: [] }, { model: 'M', done: true, done_reason: 'unload' }],
    ['/api/chat', {}, { model: 'M', message: { role: 'assistant', content: '' }, done_reason: 'unload' }],
    ['/api/embed', { input: '' }, { model: 'M', embeddings: [] }],
  ] as const)
    test(`${path} ${JSON.stringify(body)} unloads on every node before it is answered (367)`, async () => {
      await using at = await fleet()
      const answer = await post(at.gateway.url + path, { model: 'M', keep_alive: 0, ...body })
      assert.deepEqual(await at.inMemory(), Array(3).fill(['other:latest']))
      assert.equal(answer.status, 200)
      assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
      assert.partialDeepStrictEqual(await answer.json(), expected)
      assert.deepEqual(at.gateway.doubted.toSorted(), ['a', 'b', 'c', 'gone'])
      assert.equal(at.gateway.lines.find(({ message }) => message === 'request')?.fields['outcome'], 'ok')
    })

  test('waits for what runs (367)', async () => {
    await using at = await fleet()
    const client = new Ollama({ host: at.gateway.url })
    const running = client.generate({ model: 'm', prompt: 'x', options: { num_predict: 30 } })
    await eventually(() => at.nodes.some((node) => node.stats().tokens > 0), 'a token')
    const stopped = await client.generate({ model: 'm', prompt: '', keep_alive: '0s' })
    assert.equal(stopped.done_reason, 'unload')
    assert.deepEqual(await at.inMemory(), Array(3).fill(['other:latest']))
    assert.equal((await running).eval_count, 30)
  })

  test('names a node that does not answer, and reports no success (367)', async () => {
    await using at = await fleet()
    at.nodes[0]?.control.status(500, { error: 'x' }, {}, { match: { path: '/api/ps' } })
    at.nodes[2]?.control.status(500, { error: 'x' }, {}, { match: { path: '/api/ps' } })
    const answer = await post(`${at.gateway.url}/api/generate`, { model: 'm', keep_alive: 0 })
    assert.equal(answer.status, 502)
    assert.match(await answer.text(), /a did not say whether model 'm:latest' was unloaded/)
  })

  test('of a model in use for longer than ten seconds gets an error that names the node (367)', async () => {
    await using busy = await startRawNode((socket, bytes) => {
      if (bytes.startsWith('GET /api/ps')) socket.write(rawAnswer('{"models":[{"name":"m:latest"}]}'))
      else if (bytes.endsWith('}')) socket.write(rawAnswer('{}'))
    })
    const clock = new VirtualClock()
    const nodes = [{ name: 'busy', url: busy.url, loaded: ['m:latest'] }]
    await using gateway = await startGateway(aSnapshot({ config, nodes }), { clock })
    const asking = post(`${gateway.url}/api/generate`, { model: 'm', keep_alive: 0 })
    await eventually(() => busy.received.join('').includes('GET /api/ps'), 'it is looked at')
    await clock.advance(10_000)
    const answer = await asking
    assert.equal(answer.status, 409)
    assert.match(await answer.text(), /model 'm:latest' is still in use on busy: it is unloaded there when/)
  })

  test('of a model that nothing has in memory is answered at once; of none there is, with 404 (367)', async () => {
    await using at = await fleet()
    const stop = (name: string) => post(`${at.gateway.url}/api/generate`, { model: name, keep_alive: 0 })
    assert.equal((await stop('m')).status, 200)
    assert.equal((await stop('m')).status, 200)
    assert.equal((await stop('none')).status, 404)
  })

  test('means the model that was named, also where a route would have another answer for it (367)', async () => {
    await using at = await fleet()
    const cordoned = at.nodes[1] as SimulatedNode
    const models = ['m:latest', 'other:latest']
    const nodes = [
      { name: 'a', url: at.nodes[0]?.url ?? '', models: ['other:latest'], loaded: ['other:latest'] },
      { name: 'b', url: cordoned.url, models, loaded: models, weight: 0 },
    ]
    const route = routeSchema.parse({ match: { model: 'alias' }, model: 'm', fallback: ['other'] })
    at.gateway.current.swap(aSnapshot({ config, nodes, routes: new Map([['r', route]]) }))
    const answer = await post(`${at.gateway.url}/api/generate`, { model: 'alias', keep_alive: 0 })
    assert.partialDeepStrictEqual(await answer.json(), { model: 'alias', done_reason: 'unload' })
    assert.deepEqual(await inMemory(cordoned), ['other:latest'])
    assert.equal((await inMemory(at.nodes[0] as SimulatedNode)).length, 2)
  })

  test('a prompt with keep_alive 0 is answered, and unloads where it was answered (367)', async () => {
    await using at = await fleet()
    const answer = await post(`${at.gateway.url}/api/chat`, {
      model: 'm',
      keep_alive: 0,
      stream: false,
      messages: [{ role: 'user', content: 'hello' }],
    })
    assert.equal(answer.headers.get('x-llamero-node'), 'a')
    assert.match(await answer.text(), /simulated/)
    await eventually(() => at.nodes[0]?.log.some(({ type }) => type === 'unload') === true, 'unloaded')
    assert.deepEqual(await inMemory(at.nodes[0] as SimulatedNode), ['other:latest'])
    assert.equal((await inMemory(at.nodes[1] as SimulatedNode)).length, 2)
  })
})
