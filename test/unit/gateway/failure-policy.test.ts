import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { assessFailure } from '../../../lib/gateway/dispatch/failure-policy.ts'
import { noTokens } from '../../../lib/gateway/http/exchange.ts'
import type { UpstreamFault } from '../../../lib/gateway/response/outcome.ts'

type Judged = Pick<RequestSpec, 'api' | 'model' | 'variant'>
const plainChat: Judged = { api: 'ollama_chat', model: 'm:latest', variant: '' }

function refused(status: number, body: string, asked: Partial<Judged> = {}) {
  const refusal = { kind: 'refused', status, contentType: 'application/json', retryAfterMs: null } as const
  return assessFailure({ ...refusal, body: Buffer.from(body) }, { ...plainChat, ...asked })
}
const error = (text: string) => JSON.stringify({ error: text })

function failed(fault: UpstreamFault, { committed = false, text = fault as string } = {}) {
  const cause = new Error(text)
  return assessFailure({ kind: 'node-failed', fault, committed, tokens: noTokens, cause }, plainChat)
}

const again = { elsewhere: true, sign: 'bad' }
const final = { elsewhere: false, sign: 'good' }
const modelIsBad = { elsewhere: true, sign: 'neutral', effect: 'model' }

test('a failed connection fails over and counts against the node', () => {
  assert.deepEqual(failed('unreachable'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('connect-timeout'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('reset'), again)
  assert.deepEqual(failed('truncated'), again)
})

test('nothing fails over once the caller has a byte, or its time is up', () => {
  for (const fault of ['broken-off', 'stalled', 'truncated', 'error-line'] as const)
    assert.equal(failed(fault, { committed: true }).elsewhere, false)
  assert.equal(failed('request-timeout').elsewhere, false)
})

test('busy (503, 429) is back-pressure and never unhealthy (112, 176)', () => {
  const busy = { elsewhere: true, sign: 'neutral', effect: 'busy' }
  assert.deepEqual(
    refused(503, error('server busy, please try again.  maximum pending requests exceeded')),
    busy,
  )
  assert.deepEqual(refused(429, error('too many requests')), busy)
})

test('the limit of a cloud model is passed on, since no other node can lift it', () => {
  const told = { elsewhere: false, sign: 'neutral' }
  assert.deepEqual(refused(503, error('Server overloaded, please retry shortly (ref: abc)')), told)
  assert.deepEqual(refused(429, error('weekly limit (ref: abc)')), told)
})

test('a request for a missing model fails over, and the model is blocked on the node (151)', () => {
  assert.deepEqual(refused(404, error("model 'x' not found")), {
    elsewhere: true,
    sign: 'good',
    effect: 'model',
  })
})

test('a node that is not signed in loses a cloud request without being unhealthy', () => {
  assert.deepEqual(refused(401, error('unauthorized')), { elsewhere: true, sign: 'neutral' })
  assert.deepEqual(refused(403, error('ollama cloud is disabled')), { elsewhere: true, sign: 'neutral' })
})

test('an empty 403 counts against the node, which refuses our Host', () => {
  assert.deepEqual(refused(403, ''), again)
})

test('a 500 of Ollama counts against the model on the node only when its text says so', () => {
  assert.deepEqual(refused(500, error('llama-server process has terminated: exit status 1')), modelIsBad)
  assert.deepEqual(refused(500, error('CUDA error: cudaMalloc failed: out of memory')), modelIsBad)
  assert.deepEqual(refused(500, error('option "num_ctx" must be of type integer')), final)
})

test('an error nested as JSON in JSON is read', () => {
  const inner = JSON.stringify({ error: { code: 500, message: 'failed to allocate buffer', type: 'x' } })
  assert.deepEqual(refused(500, error(inner)), modelIsBad)
})

test("a 400 of an embedding about a dead runner is the node's fault; one of a chat with the same text is not", () => {
  const text = error('do embedding request: Post "http://127.0.0.1:1/embedding": EOF')
  assert.deepEqual(refused(400, text, { api: 'ollama_embed' }), modelIsBad)
  assert.deepEqual(refused(400, text, { api: 'openai_embeddings' }), modelIsBad)
  assert.deepEqual(refused(400, text, { api: 'ollama_chat' }), final)
  assert.deepEqual(
    refused(400, error('the input length exceeds the context length'), { api: 'ollama_embed' }),
    final,
  )
})

test('an unreadable file is a fault of the node, and the request fails over (371)', () => {
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

test('an error line in a stream blocks the model only when its text says that the runner failed', () => {
  const dead = failed('error-line', { committed: true, text: 'unexpected server status: 500' })
  assert.deepEqual(dead, { elsewhere: false, sign: 'neutral', effect: 'model' })
  const own = failed('error-line', { committed: true, text: 'invalid grammar' })
  assert.deepEqual(own, { elsewhere: false, sign: 'good' })
})

test('gateway errors and unknown server errors fail over', () => {
  for (const status of [502, 504, 505, 599]) assert.deepEqual(refused(status, ''), again)
})

test('a caller that left counts against no node', () => {
  assert.deepEqual(assessFailure({ kind: 'client-gone', reason: '' }, plainChat), {
    elsewhere: false,
    sign: 'neutral',
  })
})

test("an embedding by a model that cannot embed is the caller's mistake (365)", () => {
  const text = 'This server does not support embeddings. Start it with `--embeddings`'
  for (const api of ['ollama_embed', 'openai_embeddings'] as const)
    assert.deepEqual(refused(501, error(text), { api }), final)
  assert.deepEqual(refused(500, error(text), { api: 'ollama_embeddings' }), final)
})

test('an error that quotes the request is no fault of the node (365)', () => {
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

test("a dead runner is the node's fault in every text of an embedding error (365)", () => {
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

test('a context set by the caller that does not fit fails over and counts against no node (365)', () => {
  const text = error('llama-server process has terminated: cudaMalloc failed: out of memory')
  assert.deepEqual(refused(500, text, { variant: '{"num_ctx":9000000}' }), {
    elsewhere: true,
    sign: 'neutral',
  })
  assert.deepEqual(refused(500, text), modelIsBad)
  const died = error('llama-server process has terminated: exit status 1')
  assert.deepEqual(refused(500, died, { variant: '{"num_ctx":8192}' }), modelIsBad)
})

test('an error of ollama.com counts against no node (365)', () => {
  const cloud = { model: 'gpt-oss:120b-cloud' }
  for (const status of [429, 500, 502, 503, 504])
    assert.deepEqual(refused(status, error('dial tcp: lookup ollama.com: no such host'), cloud), {
      elsewhere: true,
      sign: 'neutral',
    })
})
