import assert from 'node:assert/strict'
import { test } from 'node:test'
import { patchText } from '../../../lib/admin/documents.ts'

test('a document too large to be read as YAML is patched as the JSON that it is (343)', () => {
  const models = Array.from({ length: 1000 }, (_, at) => ({ match: `m${at}`, num_ctx: 4096 }))
  const text = JSON.stringify({ models, queue: { max_length: 5, max_wait: '1s' }, classes: [] })
  const patch = { queue: { max_length: null, max_wait: '2s' }, limits: { body_bytes: 2048 }, classes: null }
  assert.deepEqual(JSON.parse(patchText(text, patch)), {
    models,
    queue: { max_wait: '2s' },
    limits: { body_bytes: 2048 },
  })
})

test('a small document keeps its comments and layout when it is patched', () => {
  assert.equal(
    patchText('# ours\nqueue: {max_length: 5} # few\n', { queue: { max_length: 6 } }),
    '# ours\nqueue: { max_length: 6 } # few\n',
  )
})
