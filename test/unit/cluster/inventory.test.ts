import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import * as inventory from '../../../lib/cluster/probing/inventory.ts'
import { canonicalName } from '../../../lib/fleet/documents/names.ts'
import { CpuReport, longestTurnMs } from '../../support/cpu.ts'

const readTags = (body: string) => inventory.readTags(Buffer.from(body))
const readLoaded = (body: string) => inventory.readLoaded(Buffer.from(body))
const readVersion = (body: string) => inventory.readVersion(Buffer.from(body))

const details = {
  parent_model: '',
  format: 'gguf',
  family: 'llama',
  families: ['llama'],
  parameter_size: '1.2B',
  quantization_level: 'Q8_0',
  context_length: 131072,
}

const tag = {
  name: 'Llama3.2:1B',
  model: 'Llama3.2:1B',
  modified_at: '2026-01-02T03:04:05.678901+01:00',
  size: 1321098329,
  digest: 'baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878',
  details,
  capabilities: ['completion', 'tools'],
}

test('the models on disk come back under canonical names, beside the case in which they are shown', async () => {
  const models = await readTags(JSON.stringify({ models: [tag, { ...tag, name: 'all-minilm' }] }))
  assert.deepEqual(models, [
    {
      name: 'all-minilm:latest',
      digest: tag.digest,
      size: tag.size,
      modified_at: tag.modified_at,
      details,
      capabilities: tag.capabilities,
    },
    {
      name: 'llama3.2:1b',
      shown: tag.name,
      digest: tag.digest,
      size: tag.size,
      modified_at: tag.modified_at,
      details,
      capabilities: tag.capabilities,
    },
  ])
})

test('the models in memory come back with their share of VRAM', async () => {
  const loaded = { ...tag, size_vram: 7, context_length: 4096, expires_at: '2318-01-01T00:00:00Z' }
  assert.deepEqual(await readLoaded(JSON.stringify({ models: [loaded] })), [
    {
      name: 'llama3.2:1b',
      shown: tag.name,
      digest: tag.digest,
      size: tag.size,
      details,
      size_vram: 7,
      context_length: 4096,
      expires_at: '2318-01-01T00:00:00Z',
    },
  ])
})

test('the version comes back, and nothing else passes for one', async () => {
  assert.equal(readVersion('{"version":"0.12.6"}'), '0.12.6')
  for (const body of ['', '{}', '[]', 'null', '{"version":1}', '<html>'])
    assert.equal(readVersion(body), null)
})

test('a body that is not from Ollama differs from an empty inventory', async () => {
  for (const body of ['', '<html>', '[]', 'null', '{}', '{"models":{}}', '{"models":"x"}']) {
    assert.equal(await readTags(body), null)
    assert.equal(await readLoaded(body), null)
  }
  for (const body of ['{"models":[]}', '{"models":null}']) assert.deepEqual(await readTags(body), [])
})

test('junk among the models is skipped or made harmless', async () => {
  const junk = [null, 1, 'x', [], {}, { name: 7 }, { name: '../../etc/passwd' }, { name: 'a b' }]
  const odd = { name: 'odd', digest: 7, size: -1, modified_at: {}, details: 'x', capabilities: [1, 'tools'] }
  assert.deepEqual(await readTags(JSON.stringify({ models: [...junk, odd, { ...odd, digest: 'second' }] })), [
    {
      name: 'odd:latest',
      digest: '0'.repeat(12),
      size: 0,
      modified_at: '',
      details: {},
      capabilities: ['tools'],
    },
  ])
  const body = `{"models":[{"name":"a","details":{"__proto__":{"x":1},"format":"gguf","deep":${'['.repeat(1000)}${']'.repeat(1000)}}}]}`
  assert.deepEqual((await readTags(body))?.[0]?.details, { format: 'gguf', deep: [] })
})

test('an inventory never outgrows what the store takes in one value', async () => {
  const many = Array.from({ length: 20_000 }, (_, index) => ({ ...tag, name: `m${index}` }))
  const models = (await readTags(JSON.stringify({ models: many }))) ?? []
  assert.ok(models.length > 1000)
  const long = Array.from({ length: 100 }, (_, index) => ({
    name: `m${index}`,
    digest: 'é'.repeat(1e4),
    details: Object.fromEntries(Array.from({ length: 1000 }, (_, key) => [`é${key}`, 'é'.repeat(1000)])),
  }))
  const loaded = (await readLoaded(JSON.stringify({ models: long }))) ?? []
  const bytes = Buffer.byteLength(JSON.stringify({ models, loaded }))
  assert.ok(bytes < 1_350_000, `${bytes} bytes`)
})

test('no answer whatsoever makes it throw, and all that it lets through is well formed', async () => {
  const field = fc.oneof(fc.jsonValue(), fc.string(), fc.constant(tag.name), fc.constant(details))
  const model = fc.oneof(
    fc.jsonValue(),
    fc.dictionary(fc.constantFrom(...Object.keys(tag), 'size_vram'), field),
  )
  const body = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ models: fc.array(model) }).map((value) => JSON.stringify(value)),
  )
  await fc.assert(
    fc.asyncProperty(body, async (text) => {
      readVersion(text)
      const models = [...((await readTags(text)) ?? []), ...((await readLoaded(text)) ?? [])]
      for (const { name, digest, size } of models) {
        assert.equal(canonicalName(name), name)
        assert.equal(typeof digest, 'string')
        assert.ok(Number.isSafeInteger(size) && size >= 0)
      }
    }),
    { numRuns: 2000 },
  )
})

test('a large answer is read as a small one is, item by item (346)', async () => {
  const models = Array.from({ length: 500 }, (_, index) => ({ ...tag, name: `m${index}` }))
  const large = (await readTags(JSON.stringify({ other: [1, 2], models }, null, 2))) ?? []
  const small = (await readTags(JSON.stringify({ models: models.slice(0, 3) }))) ?? []
  assert.equal(large.length, 500)
  assert.deepEqual(large.slice(0, 1), small.slice(0, 1))
  const spoilt = JSON.stringify({
    models: [...models, { ...tag, name: 'x', details: { a: 'y'.repeat(70_000) } }],
  })
  assert.equal((await readTags(spoilt))?.length, 500, 'only what is too large is left out')
  assert.equal(await readTags(JSON.stringify({ models }).slice(0, -1)), null, 'cut off')
})

test('no answer takes a long turn of the event loop (346)', async (test) => {
  const mib = 1024 * 1024
  const report = new CpuReport()
  for (const [name, text] of [
    ['open brackets', '['.repeat(8 * mib)],
    ['open brackets in a list', `{"models":[${'['.repeat(8 * mib)}`],
    ['empty objects', `{"models":[${'{},'.repeat((8 * mib) / 3)}{}]}`],
    ['numbers', `{"models":[${'1,'.repeat(4 * mib)}1]}`],
    ['one large model', `{"models":[{"name":"${'x'.repeat(8 * mib)}"}]}`],
    ['many fields', `{"models":[{${Array.from({ length: 100_000 }, (_, n) => `"k${n}":1`).join()}}]}`],
    [
      '10,000 models',
      JSON.stringify({ models: Array.from({ length: 10_000 }, (_, n) => ({ ...tag, name: `m${n}` })) }),
    ],
    ['white space', `{"models":[${' '.repeat(8 * mib)}]}`],
  ] as const) {
    const body = Buffer.from(text)
    report.add(name, await longestTurnMs(() => inventory.readTags(body), { enough: 10 }))
  }
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})
