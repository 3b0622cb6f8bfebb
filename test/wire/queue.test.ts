import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { eventually, rawAnswer } from '../support/wire.ts'
import { chat, post, startWireGateway } from '../support/wire-gateway.ts'

/** A node with one slot; the test releases its responses. */
async function startFull(queue: Record<string, unknown>) {
  const working: Socket[] = []
  const wire = await startWireGateway({
    slots: 1,
    config: { queue },
    serve: (socket) => void working.push(socket),
  })
  const first = wire.send(post('/api/chat', chat), /"done":true/)
  await eventually(() => working.length === 1, 'the node works')
  return { wire, working, first, finish: () => working.shift()?.write(rawAnswer('{"done":true}')) }
}

suite('a request for a node without a free slot', () => {
  const routes = [
    ['/api/chat', /\{"error":"the queue is full: 1 requests are waiting; try again later"\}$/],
    ['/v1/chat/completions', /"type":"rate_limit_error"/],
    ['/v1/messages', /"type":"rate_limit_error"/],
  ] as const
  for (const [path, words] of routes) {
    test(`is refused on ${path} with 429 and Retry-After when the queue is full, and waiting requests are served (169)`, async () => {
      const { wire, working, first, finish } = await startFull({ max_length: 1 })
      await using _wire = wire
      const second = wire.send(post('/api/chat', chat), /"done":true/)
      await eventually(() => wire.gateway.scheduler.summary().queued === 1, 'the second waits')
      const refusal = await wire.send(post(path, chat), words)
      assert.match(refusal, /^HTTP\/1.1 429 Too Many Requests\r\n[\s\S]*retry-after: [1-9]\d*\r\n/)
      assert.match(refusal, words)
      assert.equal(wire.node.received.length, 1, 'no node saw it')
      finish()
      assert.match(await first, /^HTTP\/1.1 200 OK/)
      await eventually(() => working.length === 1, 'the second is with the node')
      finish()
      assert.match(await second, /^HTTP\/1.1 200 OK/)
      await wire.assertWell()
    })
  }

  test('is refused with 503 and Retry-After after its longest wait (169)', async () => {
    const { wire, first, finish } = await startFull({ max_wait: '100ms' })
    await using _wire = wire
    const refusal = await wire.send(post('/api/chat', chat), /\{"error":/)
    assert.match(refusal, /^HTTP\/1.1 503 Service Unavailable\r\n[\s\S]*retry-after: [1-9]\d*\r\n/)
    assert.match(refusal, /no slot became free for model 'm(:latest)?' within 0.1 s/)
    assert.equal(wire.node.received.length, 1, 'no node saw it')
    finish()
    assert.match(await first, /^HTTP\/1.1 200 OK/)
    await wire.assertWell()
  })
})
