import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { Forwarder } from '../../lib/gateway/upstream/forwarder.ts'
import { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

let node: SimulatedNode
let gateway: Awaited<ReturnType<typeof startGateway>>
const messages = [{ role: 'user', content: 'hello there' }]

before(async () => {
  const model = aModel({ name: 'm', loadMs: 0, promptTps: 100, decodeTps: 50 })
  node = await SimulatedNode.start({
    name: 'n',
    models: [model, aModel({ name: 'embedder', loadMs: 0, capabilities: ['embedding'] })],
  })
  const models = ['m:latest', 'embedder:latest']
  gateway = await startGateway(aSnapshot({ nodes: [{ name: 'n', url: node.url, models, loaded: models }] }))
})

after(async () => {
  await gateway[Symbol.asyncDispose]()
  await node.stop()
})

test('the scheduler is told of a prompt, its limit and its prefixes, and of a session by its header', async (t) => {
  const acquire = t.mock.method(Scheduler.prototype, 'acquire')
  const ask = async (headers: Record<string, string>, content = 'hello there') => {
    const conversation = [{ role: 'system', content: 'be brief' }, ...messages, { role: 'user', content }]
    const body = JSON.stringify({ model: 'm', messages: conversation, options: { num_predict: 8 } })
    await (await fetch(`${gateway.url}/api/chat`, { method: 'POST', headers, body })).text()
    const { promptTokens = 0, maxTokens, prefixes = [] } = acquire.mock.calls.at(-1)?.arguments[0] ?? {}
    assert(promptTokens > 10 && promptTokens < 60)
    assert.equal(prefixes.at(-1)?.tokens, promptTokens)
    assert.equal(maxTokens, 8)
    return prefixes.map(({ hash }) => hash)
  }
  assert.deepEqual(await ask({}), await ask({}))
  assert.notDeepEqual(await ask({}), await ask({}, 'good day'))
  const session = { 'x-llamero-session': 'a' }
  assert.deepEqual(await ask(session), await ask(session, 'good day'))
  assert.notDeepEqual(await ask(session), await ask({ 'X-OpenWebUI-Chat-Id': 'b' }))
})

/** What the last of the tries that a request took came to. */
async function timingsOf(context: TestContext, path: string, body: object) {
  const send = context.mock.method(Forwarder.prototype, 'send')
  const answer = await fetch(`${gateway.url}${path}`, {
    method: 'POST',
    body: JSON.stringify({ model: 'm', ...body }),
  })
  await answer.text()
  const outcome = await send.mock.calls.at(-1)?.result
  assert.equal(outcome?.kind, 'done')
  return outcome.timings
}

const native: readonly [string, string, object][] = [
  ['a streamed chat', '/api/chat', { messages }],
  ['a whole chat', '/api/chat', { messages, stream: false }],
  ['a streamed generation', '/api/generate', { prompt: 'hello there' }],
  ['a whole generation', '/api/generate', { prompt: 'hello there', stream: false }],
]
for (const [name, path, body] of native)
  test(`${name} tells the node's own durations, in seconds`, async (t) => {
    const timings = await timingsOf(t, path, { ...body, options: { num_predict: 8 } })
    assert(timings && !timings.fromOutside)
    assert.equal(timings.outputTokens, 8)
    assert(timings.promptTokens > 0)
    assert(timings.eval > 0.04 && timings.eval < 5, `${timings.eval}`)
    assert(timings.promptEval > 0)
    assert(timings.load + timings.promptEval + timings.eval <= timings.total + 0.001)
  })

const counted: readonly [string, string, object][] = [
  [
    'an OpenAI stream with usage',
    '/v1/chat/completions',
    { messages, max_tokens: 30, stream_options: { include_usage: true } },
  ],
  ['a Responses stream', '/v1/responses', { input: 'hello there', max_output_tokens: 30 }],
  ['an Anthropic stream', '/v1/messages', { messages, max_tokens: 30 }],
]
for (const [name, path, body] of counted)
  test(`${name} tells what was measured from outside`, async (t) => {
    const timings = await timingsOf(t, path, { ...body, stream: true })
    assert(timings?.fromOutside)
    assert.equal(timings.outputTokens, 30)
    assert(timings.promptTokens > 0)
    assert(timings.eval >= 0.25 && timings.promptEval > 0, JSON.stringify(timings))
    assert(Math.abs(timings.promptEval + timings.eval - timings.total) < 1e-6)
  })

const untold: readonly [string, string, object][] = [
  ['too short a stream', '/v1/messages', { messages, max_tokens: 4, stream: true }],
  ['an OpenAI stream without usage', '/v1/chat/completions', { messages, max_tokens: 8, stream: true }],
  ['a whole OpenAI answer', '/v1/chat/completions', { messages, max_tokens: 8 }],
  ['a whole Anthropic answer', '/v1/messages', { messages, max_tokens: 8 }],
  ['a load', '/api/generate', { prompt: '', stream: false }],
]
for (const [name, path, body] of untold)
  test(`${name} tells nothing`, async (t) => {
    assert.equal(await timingsOf(t, path, body), null)
  })

test("an embedding tells its node's total, less the load, as the time to read (364)", async (t) => {
  const timings = await timingsOf(t, '/api/embed', { model: 'embedder', input: 'hello' })
  assert(timings?.fromOutside)
  assert(timings.promptTokens > 0 && timings.eval === 0 && timings.outputTokens === 0)
  assert(Math.abs(timings.promptEval + timings.load - timings.total) < 1e-6)
})
