import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Api } from '../../lib/fleet/ask.ts'
import { judge } from '../../lib/gateway/failures.ts'
import { type Fault, noTokens } from '../../lib/gateway/outcome.ts'

function refused(status: number, body: string, api: Api = 'ollama_chat') {
  const contentType = 'application/json'
  return judge({ kind: 'refused', status, contentType, body: Buffer.from(body), retryAfterMs: null }, api)
}
const error = (text: string) => JSON.stringify({ error: text })

function failed(fault: Fault, { committed = false, text = fault as string } = {}) {
  const cause = new Error(text)
  return judge({ kind: 'node-failed', fault, committed, tokens: noTokens, cause }, 'ollama_chat')
}

const again = { elsewhere: true, sign: 'bad' }
const final = { elsewhere: false, sign: 'good' }
const modelIsBad = { ...again, effect: 'model' }

test('a failed connection sends the request elsewhere and speaks against the node', () => {
  assert.deepEqual(failed('unreachable'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('connect-timeout'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('reset'), again)
  assert.deepEqual(failed('truncated'), again)
})

test('nothing goes elsewhere once the caller has a byte, or once its time is up', () => {
  for (const fault of ['broken-off', 'stalled', 'truncated', 'error-line'] as const)
    assert.equal(failed(fault, { committed: true }).elsewhere, false)
  assert.equal(failed('request-timeout').elsewhere, false)
})

test('busy (503, 429) is back-pressure and never ill health (112, 176)', () => {
  const busy = { elsewhere: true, sign: 'neutral', effect: 'busy' }
  assert.deepEqual(
    refused(503, error('server busy, please try again.  maximum pending requests exceeded')),
    busy,
  )
  assert.deepEqual(refused(429, error('too many requests')), busy)
})

test("a cloud model's own limit is told as it is, since no other node can lift it", () => {
  const told = { elsewhere: false, sign: 'neutral' }
  assert.deepEqual(refused(503, error('Server overloaded, please retry shortly (ref: abc)')), told)
  assert.deepEqual(refused(429, error('weekly limit (ref: abc)')), told)
})

test('a model that is missing is looked for elsewhere, and not asked for here again (151)', () => {
  assert.deepEqual(refused(404, error("model 'x' not found")), {
    elsewhere: true,
    sign: 'good',
    effect: 'model',
  })
})

test('a node that is not signed in sends a cloud model elsewhere without being ill', () => {
  assert.deepEqual(refused(401, error('unauthorized')), { elsewhere: true, sign: 'neutral' })
  assert.deepEqual(refused(403, error('ollama cloud is disabled')), { elsewhere: true, sign: 'neutral' })
})

test('a 403 without a word is a node that does not like our Host, and no use to anybody', () => {
  assert.deepEqual(refused(403, ''), again)
})

test("Ollama's 500 is the node's fault only when its text says so", () => {
  assert.deepEqual(refused(500, error('llama-server process has terminated: exit status 1')), modelIsBad)
  assert.deepEqual(refused(500, error('CUDA error: cudaMalloc failed: out of memory')), modelIsBad)
  assert.deepEqual(refused(500, error('option "num_ctx" must be of type integer')), final)
})

test('an error that hides as JSON in JSON is read', () => {
  const inner = JSON.stringify({ error: { code: 500, message: 'failed to allocate buffer', type: 'x' } })
  assert.deepEqual(refused(500, error(inner)), modelIsBad)
})

test("embed's 400 that hides a dead runner is the node's fault, and chat's with the same words is not", () => {
  const text = error('do embedding request: Post "http://127.0.0.1:1/embedding": EOF')
  assert.deepEqual(refused(400, text, 'ollama_embed'), modelIsBad)
  assert.deepEqual(refused(400, text, 'openai_embeddings'), modelIsBad)
  assert.deepEqual(refused(400, text, 'ollama_chat'), final)
  assert.deepEqual(refused(400, error('the input length exceeds the context length'), 'ollama_embed'), final)
})

test('an error line in a stream speaks against the node only when its text does', () => {
  assert.equal(failed('error-line', { committed: true, text: 'unexpected server status: 500' }).sign, 'bad')
  assert.equal(failed('error-line', { committed: true, text: 'invalid grammar' }).sign, 'good')
})

test('gateway errors, and server errors nobody knows, go elsewhere', () => {
  for (const status of [502, 504, 505, 599]) assert.deepEqual(refused(status, ''), again)
})

test("a caller who left is nobody's fault", () => {
  assert.deepEqual(judge({ kind: 'client-gone', reason: '' }, 'ollama_chat'), {
    elsewhere: false,
    sign: 'neutral',
  })
})
