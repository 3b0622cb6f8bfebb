import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Fault } from '../../lib/gateway/attempt.ts'
import { judge } from '../../lib/gateway/retry.ts'

const refused = (status: number, text: string) =>
  judge({
    kind: 'refused',
    status,
    contentType: 'application/json',
    body: Buffer.from(JSON.stringify({ error: text })),
  })
const failed = (fault: Fault, committed = false) =>
  judge({ kind: 'node-failed', fault, committed, cause: new Error(fault) })

test('a failed connection sends the request elsewhere and speaks against the node', () => {
  assert.deepEqual(failed('unreachable'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('connect-timeout'), { elsewhere: true, sign: 'refused' })
  assert.deepEqual(failed('reset'), { elsewhere: true, sign: 'bad' })
})

test('nothing goes elsewhere once the caller has a byte, or once its time is up', () => {
  assert.equal(failed('broken-off', true).elsewhere, false)
  assert.equal(failed('stalled', true).elsewhere, false)
  assert.equal(failed('request-timeout').elsewhere, false)
})

test('a busy node is not ill', () => {
  assert.deepEqual(refused(503, 'server busy, please try again.  maximum pending requests exceeded'), {
    elsewhere: true,
    sign: 'neutral',
  })
})

test('a missing model is looked for elsewhere', () => {
  assert.deepEqual(refused(404, "model 'x' not found"), { elsewhere: true, sign: 'good' })
})

test("Ollama's 500 is the node's fault only when its text says so", () => {
  assert.deepEqual(refused(500, 'llama-server process has terminated: exit status 1'), {
    elsewhere: true,
    sign: 'bad',
  })
  assert.deepEqual(refused(500, 'option "num_ctx" must be of type integer'), {
    elsewhere: false,
    sign: 'good',
  })
})

test("embed's 400 that hides a dead runner is the node's fault", () => {
  assert.deepEqual(refused(400, 'do embedding request: Post "http://127.0.0.1:1/embedding": EOF'), {
    elsewhere: true,
    sign: 'bad',
  })
  assert.deepEqual(refused(400, 'the input length exceeds the context length'), {
    elsewhere: false,
    sign: 'good',
  })
})

test("a caller who left is nobody's fault", () => {
  assert.deepEqual(judge({ kind: 'client-gone', reason: '' }), { elsewhere: false, sign: 'neutral' })
})
