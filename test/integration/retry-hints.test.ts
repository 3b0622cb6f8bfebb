import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

const messages = [{ role: 'user' as const, content: 'hello' }]
const busy = rawAnswer('{"error":"busy"}', { status: '503 Service Unavailable', extra: 'Retry-After: 1\r\n' })
const answers = {
  openai: rawAnswer('{"choices":[{"message":{"content":"hi"}}]}'),
  anthropic: rawAnswer('{"content":[{"type":"text","text":"hi"}]}'),
}

/** What each SDK, which asks up to three times, makes of an address; and how often it asked. */
const clients = {
  openai: (url: string) =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: 'ollama', maxRetries: 2 }).chat.completions.create({
      model: 'm',
      messages,
    }),
  anthropic: (url: string) =>
    new Anthropic({ baseURL: url, apiKey: 'ollama', maxRetries: 2 }).messages.create({
      model: 'm',
      max_tokens: 9,
      messages,
    }),
}

for (const name of ['openai', 'anthropic'] as const) {
  suite(`the ${name} SDK`, () => {
    const failing = async (snapshot: Snapshot) => {
      await using gateway = await startGateway(snapshot)
      await assert.rejects(Promise.resolve(clients[name](gateway.url)))
      return gateway.lines.map(({ fields }) => fields['status'])
    }

    test('asks again, as late as it is told to, when waiting helps', async () => {
      let asked = 0
      await using node = await startRawNode(
        (socket) => void socket.write(asked++ === 0 ? busy : answers[name]),
      )
      const config = { breaker: { reset: '100ms' } }
      await using gateway = await startGateway(
        aSnapshot({ nodes: [{ name: 'a', url: node.url, loaded: ['m:latest'] }], config }),
      )
      const startedAt = performance.now()
      assert.match(JSON.stringify(await clients[name](gateway.url)), /"hi"/)
      assert.deepEqual([asked, gateway.lines.length], [2, 2])
      assert(performance.now() - startedAt > 900, 'it waited for the second it was told')
    })

    test('does not ask again when nothing will change: no nodes', async () => {
      assert.deepEqual(await failing(aSnapshot({ revision: 5n })), [503])
    })

    test('does not ask again for what is not there', async () => {
      assert.deepEqual(await failing(aSnapshot({ nodes: [{ name: 'a', models: ['n:latest'] }] })), [404])
    })
  })
}

test('the hints are for the callers of /v1: Ollama’s own get Retry-After alone', async () => {
  await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a', health: 'down' }] }))
  const hints = async (path: string) => {
    const { headers } = await fetch(gateway.url + path, { method: 'POST', body: '{"model":"m"}' })
    return ['retry-after', 'retry-after-ms', 'x-should-retry'].map((name) => headers.get(name))
  }
  assert.deepEqual(await hints('/api/chat'), ['5', null, null])
  assert.deepEqual(await hints('/v1/chat/completions'), ['5', '5000', 'true'])
  assert.deepEqual(await hints('/v1/messages'), ['5', '5000', 'true'])
  assert.deepEqual(await hints('/v1/nothing'), [null, null, 'false'])
})
