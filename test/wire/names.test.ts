import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { routeSchema } from '../../lib/fleet/config.ts'
import { renameModel } from '../../lib/gateway/body/rename-model.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { startRawNode } from '../support/wire.ts'

const models = [
  aModel({ name: 'chatty:1b', loadMs: 1, promptTps: 10_000, decodeTps: 10_000 }),
  aModel({ name: 'embedder:latest', loadMs: 1, capabilities: ['embedding'], embedDim: 8 }),
]
const messages = [{ role: 'user', content: 'hello' }]
const say = { messages, prompt: 'hello', input: 'hello', max_tokens: 100 }

suite('a model that goes by another name', () => {
  let node: SimulatedNode
  let gateway: Awaited<ReturnType<typeof startGateway>>
  before(async () => {
    node = await SimulatedNode.start({ name: 'a', models })
    const routes = new Map(
      Object.entries({
        chat: { match: { model: 'my-chatty:*' }, model: 'chatty:1b' },
        embed: { match: { model: 'my-embedder:*' }, model: 'embedder' },
        gone: { match: { model: 'gone:*' }, fallback: ['chatty:1b'] },
      }).map(([name, route]) => [name, routeSchema.parse(route)]),
    )
    const names = ['chatty:1b', 'embedder:latest']
    gateway = await startGateway(
      aSnapshot({ nodes: [{ name: 'a', url: node.url, models: names, loaded: names }], routes }),
    )
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await node.stop()
  })

  const ask = async (path: string, model: string, stream: boolean) => {
    const body = JSON.stringify({ model, stream, ...say })
    const response = await fetch(gateway.url + path, { method: 'POST', body })
    const text = await response.text()
    assert.equal(response.status, 200, text)
    return { text, named: [...text.matchAll(/"model":"([^"]*)"/g)].map(([, name]) => name) }
  }

  for (const path of [
    '/api/chat',
    '/api/generate',
    '/v1/chat/completions',
    '/v1/completions',
    '/v1/responses',
    '/v1/messages',
  ])
    for (const stream of [true, false]) {
      test(`is named in the answers of ${path} as the caller wrote it, stream: ${stream}`, async () => {
        const { named } = await ask(path, 'My-Chatty', stream)
        assert.deepEqual([...new Set(named)], ['My-Chatty'])
        const own = await ask(path, 'Chatty:1b', stream)
        assert.deepEqual([...new Set(own.named)], ['Chatty:1b'])
        assert.deepEqual(named.length > 1, own.named.length > 1)
      })

      test(`is named in the answers of ${path} as itself where it stands in for another, stream: ${stream}`, async () => {
        const { named } = await ask(path, 'gone', stream)
        assert.deepEqual([...new Set(named)], ['chatty:1b'])
      })
    }

  for (const path of ['/api/embed', '/v1/embeddings']) {
    test(`is named in the answer of ${path} as the caller wrote it`, async () => {
      assert.deepEqual((await ask(path, 'my-EMBEDDER:latest', false)).named, ['my-EMBEDDER:latest'])
    })
  }
})

suite('the bytes of an answer', () => {
  const lines = `${[
    '{"model":"m:latest","message":{"content":"say \\"model\\":\\"m:latest\\""},"done":false}',
    '{"model": "m:latest","tool":{"model":"other"},"done":false}',
    '{"model":"m:latest","message":{"tool_calls":[{"model":"m:latest"}]},"done":true}',
  ].join('\n')}\n`
  const large = `{"model":"m:latest","embeddings":[[${'0.5,'.repeat(400_000)}1]]}`

  /** The response for a caller of `model` when the node sends `bytes`, cut at every `step`. */
  const through = async (model: string, bytes: string, type: string, step: number) => {
    await using node = await startRawNode(async (socket) => {
      const head = `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${bytes.length}\r\n\r\n`
      socket.write(head)
      for (let at = 0; at < bytes.length; at += step) {
        socket.write(bytes.slice(at, at + step))
        await new Promise((resolve) => setImmediate(resolve))
      }
    })
    const routes = new Map([['r', routeSchema.parse({ match: { model: 'mine:*' }, model: 'm' })]])
    const nodes = [{ name: 'a', url: node.url, loaded: ['m:latest'] }]
    await using gateway = await startGateway(aSnapshot({ nodes, routes }))
    const path = type === 'application/json' ? '/api/embed' : '/api/chat'
    const response = await fetch(gateway.url + path, { method: 'POST', body: JSON.stringify({ model }) })
    const text = await response.text()
    return { text, length: response.headers.get('content-length') }
  }

  for (const step of [1, 7, 1000]) {
    test(`are those of the node, whatever the name, as long as no route replaced it; in pieces of ${step}`, async () => {
      const { text } = await through('M', lines, 'application/x-ndjson', step)
      assert.equal(text, lines)
    })

    test(`differ by the first name of each line where one did; in pieces of ${step}`, async () => {
      const { text } = await through('mine', lines, 'application/x-ndjson', step)
      const expected = lines
        .split('\n')
        .map((line) => line.replace('{"model":"m:latest"', '{"model":"mine"'))
        .join('\n')
      assert.equal(text, expected)
    })
  }

  test('have their own length, also when they are too many to be held', async () => {
    const { text, length } = await through('mine', large, 'application/json', 200_000)
    assert.equal(text, large.replace('m:latest', 'mine'))
    assert.equal(length, String(large.length - 4))
  })

  test('contain any name that a caller can write', () => {
    const caller = 'ns/"Ü\\\n'
    const answer = renameModel(Buffer.from('{"model":"m:latest"}'), { node: 'm:latest', caller })
    assert.equal(JSON.parse(answer.toString()).model, caller)
  })
})

test('a name with two sources is refused with the text of Ollama, in every API', async () => {
  await using node = await startRawNode(() => {})
  await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a', url: node.url }] }))
  for (const model of ['m:local:cloud', 'm:8b-cloud:Local']) {
    for (const path of ['/api/chat', '/api/show', '/v1/chat/completions', '/v1/messages']) {
      const body = JSON.stringify({ model })
      const response = await fetch(gateway.url + path, { method: 'POST', body })
      assert.equal(response.status, 400)
      const text = (await response.text()).replaceAll('\\"', "'")
      assert(text.includes(`use either :local or :cloud, not both: '${model}'`), text)
    }
  }
  assert.deepEqual(node.received, [])
})
