import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UpstreamOutcome } from '../../../lib/gateway/response/outcome.ts'
import { type NodeRequest, unload } from '../../../lib/gateway/upstream/unload.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

const { signal } = new AbortController()
const answer = (body: unknown, status = 200): UpstreamOutcome => ({
  kind: 'refused',
  status,
  contentType: 'application/json',
  body: Buffer.from(JSON.stringify(body)),
  retryAfterMs: null,
})

/** A node that lists these models, one list per request. */
function aNode(memories: readonly (readonly string[])[]) {
  const requests: string[] = []
  let looks = 0
  const send = async ({ method, path, body }: NodeRequest): Promise<UpstreamOutcome> => {
    requests.push(`${method} ${path} ${body}`.trim())
    if (path !== '/api/ps') return answer({ done: true })
    const names = memories[Math.min(looks++, memories.length - 1)] ?? []
    return answer({ models: names.map((name) => ({ name })) })
  }
  return { requests, send }
}

test('an unload ends when none of the models is in memory (367)', async () => {
  const clock = new VirtualClock()
  const { requests, send } = aNode([['A', 'b:1', 'c:latest'], ['A', 'c:latest'], ['c:latest']])
  const unloaded = unload(['a:latest', 'b:1'], { send, clock, signal })
  await clock.advance(1000)
  assert.deepEqual(await unloaded, [])
  assert.deepEqual(requests, [
    'POST /api/generate {"model":"a:latest","keep_alive":0,"stream":false}',
    'POST /api/generate {"model":"b:1","keep_alive":0,"stream":false}',
    ...Array(3).fill('GET /api/ps'),
  ])
})

test('a model in use is named after ten seconds, and not before (367)', async () => {
  const clock = new VirtualClock()
  let kept: readonly string[] | null | undefined
  const { send } = aNode([['a:latest']])
  void unload(['a:latest', 'b:1'], { send, clock, signal }).then((left) => {
    kept = left
  })
  await clock.advance(9900)
  assert.equal(kept, undefined)
  await clock.advance(200)
  assert.deepEqual(kept, ['a:latest'])
})

test('a node that does not list its memory counts as unknown (367)', async () => {
  const clock = new VirtualClock()
  const silent: UpstreamOutcome = {
    kind: 'node-failed',
    fault: 'first-token-timeout',
    committed: false,
    tokens: { input: 0, output: 0 },
    cause: new Error('silent'),
  }
  const failed = answer({ models: [] }, 500)
  for (const outcome of [failed, answer('no JSON of theirs'), answer({ models: 1 }), silent])
    assert.equal(await unload(['a:latest'], { send: async () => outcome, clock, signal }), null)
})
