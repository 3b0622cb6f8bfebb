import assert from 'node:assert/strict'
import { test } from 'node:test'
import { patchText } from '../../../lib/admin/handlers/write-document.ts'

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

test('a change of more than a thousand fields is refused, and of a thousand is made (343)', () => {
  const patch = (count: number) => ({
    queue: { shares: Object.fromEntries(Array.from({ length: count }, (_, at) => [`t${at}`, 1])) },
  })
  assert.match(patchText('queue: {max_length: 5}\n', patch(997)), /t996: 1/)
  assert.throws(
    () => patchText('queue: {max_length: 5}\n', patch(998)),
    /more than 1000 fields and items: replace the whole document/,
  )
})

test('a stored text that is too large to be read is not changed (343)', () => {
  assert.throws(() => patchText(`a: ${'x'.repeat(1_000_000)}`, { a: 1 }), /is 1000003 bytes long/)
  const keys = JSON.stringify(Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [`k${at}`, 1])))
  assert.throws(() => patchText(keys, { a: 1 }), /more than 1000 entries/)
})
