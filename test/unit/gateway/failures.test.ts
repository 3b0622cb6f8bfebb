import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { judgeFailure } from '../../../lib/gateway/dispatch/failure-policy.ts'
import { noTokens } from '../../../lib/gateway/http/exchange.ts'
import type { UpstreamFault } from '../../../lib/gateway/response/outcome.ts'

type Judged = Pick<RequestSpec, 'api' | 'model' | 'variant'>
const plainChat: Judged = { api: 'ollama_chat', model: 'm:latest', variant: '' }

function refused(status: number, body: string, asked: Partial<Judged> = {}) {
  const refusal = { kind: 'refused', status, contentType: 'application/json', retryAfterMs: null } as const
  return judgeFailure({ ...refusal, body: Buffer.from(body) }, { ...plainChat, ...asked })
}
const error = (text: string) => JSON.stringify({ error: text })

function failed(fault: UpstreamFault, { committed = false, text = fault as string } = {}) {
  const cause = new Error(text)
  return judgeFailure({ kind: 'node-failed', fault, committed, tokens: noTokens, cause }, plainChat)
}

const again = { elsewhere: true, sign: 'bad' }
const final = { elsewhere: false, sign: 'good' }
const modelIsBad = { elsewhere: true, sign: 'neutral', effect: 'model' }

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
  assert.deepEqual(refused(400, text, { api: 'ollama_embed' }), modelIsBad)
  assert.deepEqual(refused(400, text, { api: 'openai_embeddings' }), modelIsBad)
  assert.deepEqual(refused(400, text, { api: 'ollama_chat' }), final)
  assert.deepEqual(
    refused(400, error('the input length exceeds the context length'), { api: 'ollama_embed' }),
    final,
  )
})

test('files that a node cannot read are its own trouble, and a copy elsewhere may be well (371)', () => {
  const texts = [
    'open /root/.ollama/models/blobs/sha256-12ab: no such file or directory',
    'read /root/.ollama/models/blobs/sha256-12ab: input/output error',
    'invalid file magic',
    'unexpected EOF',
    'unexpected end of JSON input',
  ]
  for (const text of texts) {
    assert.deepEqual(refused(500, error(text)), modelIsBad, text)
    assert.deepEqual(refused(500, error(text), { api: 'ollama_embed' }), modelIsBad, text)
    assert.deepEqual(refused(400, error(text)), final, text)
  }
})

test('an error line in a stream keeps the model from the node only when its text says that the runner failed', () => {
  const dead = failed('error-line', { committed: true, text: 'unexpected server status: 500' })
  assert.deepEqual(dead, { elsewhere: false, sign: 'neutral', effect: 'model' })
  const own = failed('error-line', { committed: true, text: 'invalid grammar' })
  assert.deepEqual(own, { elsewhere: false, sign: 'good' })
})

test('gateway errors, and server errors nobody knows, go elsewhere', () => {
  for (const status of [502, 504, 505, 599]) assert.deepEqual(refused(status, ''), again)
})

test("a caller who left is nobody's fault", () => {
  assert.deepEqual(judgeFailure({ kind: 'client-gone', reason: '' }, plainChat), {
    elsewhere: false,
    sign: 'neutral',
  })
})

test("an embedding by a model that only writes is the caller's mistake (365)", () => {
  const text = 'This server does not support embeddings. Start it with `--embeddings`'
  for (const api of ['ollama_embed', 'openai_embeddings'] as const)
    assert.deepEqual(refused(501, error(text), { api }), final)
  assert.deepEqual(refused(500, error(text), { api: 'ollama_embeddings' }), final)
})

test("an error that repeats words of the request is not the node's report of a fault (365)", () => {
  const quoted = String.raw`invalid format: "\"out of memory\""; expected "json" or a valid JSON Schema object`
  assert.deepEqual(refused(500, error(quoted)), final)
  const inJson = { error: { code: 500, message: 'Failed to parse input at pos 0: out of memory' } }
  assert.deepEqual(refused(500, error(JSON.stringify(inJson))), final)
  assert.deepEqual(refused(500, error('template: :1:9: executing "" at <"failed to allocate">: x')), final)
  const embed = { api: 'ollama_embed' } as const
  assert.deepEqual(refused(400, error('unexpected EOF'), embed), final)
  assert.deepEqual(refused(400, error('time: invalid duration "do embedding request: EOF"'), embed), final)
  assert.deepEqual(refused(500, error('option "out of memory" must be of type integer'), embed), final)
})

test("a dead runner is the node's fault in every way that an embedding tells of it (365)", () => {
  const texts = [
    'do embedding request: Post "http://127.0.0.1:1/v1/embeddings": EOF',
    'error reading embed response: unexpected EOF',
    'llama-server process no longer running: 1 ',
    'health resp: Get "http://127.0.0.1:1/health": dial tcp 127.0.0.1:1: connect: connection refused',
  ]
  for (const text of texts) {
    assert.deepEqual(refused(400, error(text), { api: 'ollama_embed' }), modelIsBad, text)
    assert.deepEqual(refused(500, error(text), { api: 'ollama_embeddings' }), modelIsBad, text)
  }
})

test("a context of the caller's own that does not fit is tried elsewhere and held against nobody (365)", () => {
  const text = error('llama-server process has terminated: cudaMalloc failed: out of memory')
  assert.deepEqual(refused(500, text, { variant: '{"num_ctx":9000000}' }), {
    elsewhere: true,
    sign: 'neutral',
  })
  assert.deepEqual(refused(500, text), modelIsBad)
  const died = error('llama-server process has terminated: exit status 1')
  assert.deepEqual(refused(500, died, { variant: '{"num_ctx":8192}' }), modelIsBad)
})

test('what ollama.com says of its own models is held against no node (365)', () => {
  const cloud = { model: 'gpt-oss:120b-cloud' }
  for (const status of [429, 500, 502, 503, 504])
    assert.deepEqual(refused(status, error('dial tcp: lookup ollama.com: no such host'), cloud), {
      elsewhere: true,
      sign: 'neutral',
    })
})
