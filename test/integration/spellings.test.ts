import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

const messages = [{ role: 'user', content: 'hello' }]
const dialects = [
  { path: '/api/chat', body: { messages, stream: false } },
  { path: '/api/generate', body: { prompt: 'hello', stream: false } },
  { path: '/v1/chat/completions', body: { messages } },
  { path: '/v1/completions', body: { prompt: 'hello' } },
  { path: '/v1/responses', body: { input: 'hello' } },
  { path: '/v1/messages', body: { messages, max_tokens: 4 } },
]
/** Ten on each of two nodes; two of them, which have a name alone, on both. */
const own = (node: string) =>
  Array.from({ length: 8 }, (_, n) =>
    n % 2 === 0 ? `${node}-${n}:latest` : `team-${node}/m${n}:${n}b-Q4_K_M`,
  )
const onBoth = ['both:latest', 'both:8b']
const held = { a: [...own('a'), ...onBoth], b: [...own('b'), ...onBoth] }
const holdersOf = (name: string) =>
  Object.entries(held).flatMap(([node, names]) => (names.includes(name) ? [node] : []))

/** Every way in which Ollama lets a name be written (docs/ollama.md#requests). */
function spellings(name: string): string[] {
  const long = name.includes('/') ? name : `library/${name}`
  return [
    name,
    name.toUpperCase(),
    ` ${name} `,
    long,
    `registry.ollama.ai/${long}`,
    `https://registry.ollama.ai/${long}`,
    `${name}:local`,
    ...(name.endsWith(':latest') ? [name.slice(0, -':latest'.length)] : []),
  ]
}

suite('two nodes with ten models each', () => {
  let nodes: SimulatedNode[]
  let gateway: Awaited<ReturnType<typeof startGateway>>
  before(async () => {
    const quick = { loadMs: 1, promptTps: 100_000, decodeTps: 10_000, text: 'hi' }
    nodes = await Promise.all(
      Object.entries(held).map(([name, names]) =>
        SimulatedNode.start({
          name,
          models: names.map((model) => aModel({ ...quick, name: model, sizeMiB: 1, kvMiBPer1kCtx: 0 })),
          numParallel: 8,
          maxLoadedModels: 20,
        }),
      ),
    )
    const sketches = nodes.map(({ name, url }) => {
      const models = held[name as 'a' | 'b'].map((model) => model.toLowerCase())
      return { name, url, models, loaded: models, slots: 8 }
    })
    gateway = await startGateway(aSnapshot({ nodes: sketches }))
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    for (const node of nodes) await node.stop()
  })

  test('show every model once, in every list', async () => {
    const expected = [...new Set([...held.a, ...held.b].map((name) => name.toLowerCase()))].sort()
    assert.equal(expected.length, 18)
    const list = async (path: string) =>
      (await (await fetch(gateway.url + path)).json()) as Record<string, { name: string; id: string }[]>
    assert.deepEqual((await list('/api/tags'))['models']?.map(({ name }) => name).sort(), expected)
    assert.deepEqual((await list('/v1/models'))['data']?.map(({ id }) => id).sort(), expected)
  })

  for (const { path, body } of dialects)
    test(`serve each from a node that has it, however it is spelled, by ${path}`, async () => {
      for (const name of new Set([...held.a, ...held.b]))
        await Promise.all(
          spellings(name).map(async (model) => {
            const answer = await fetch(gateway.url + path, {
              method: 'POST',
              body: JSON.stringify({ model, ...body }),
            })
            const text = await answer.text()
            assert.equal(answer.status, 200, `${model}: ${text}`)
            assert(holdersOf(name).includes(answer.headers.get('x-llamero-node') ?? ''), model)
            assert.equal((JSON.parse(text) as { model: string }).model, model)
          }),
        )
    })
})
