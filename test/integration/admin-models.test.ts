import assert from 'node:assert/strict'
import { test } from 'node:test'
import { routeSchema } from '../../lib/fleet/config.ts'
import { buildSnapshot } from '../../lib/fleet/snapshot.ts'
import { aDocuments } from '../support/fleet.ts'
import { startModelAdmin } from '../support/model-admin.ts'

const model = 'hf.co/org/m:q4'
const nodes = [
  { name: 'a', models: [model] },
  { name: 'b', models: [model], loaded: [model], health: 'down' as const },
  { name: 'c', models: [], loaded: [model] },
  { name: 'd', models: ['other:latest'] },
  { name: 'e', models: [model], state: 'off' as const },
]

/** The fleet above, with a newer copy on `b`. */
function aFleet() {
  const documents = aDocuments({ nodes })
  const b = documents.statuses.get('b')
  assert.ok(b)
  const newer = { digest: 'newer', modified_at: '2026-02-01T00:00:00Z', details: { family: 'qwen3' } }
  const models = b.models.map((copy) => ({ ...copy, ...newer, capabilities: ['tools'] }))
  const statuses = new Map([...documents.statuses, ['b', { ...b, models }]])
  return buildSnapshot({ ...documents, statuses })
}

test('a model is shown with each copy of it, by any spelling of its name', async () => {
  await using admin = await startModelAdmin(aFleet())
  for (const name of [model, 'HF.co/Org/M:Q4']) {
    const { status, body } = await admin.ask('GET', `models/${encodeURIComponent(name)}`)
    assert.equal(status, 200)
    assert.deepEqual(
      [body.name, body.digest, body.family, body.capabilities, body.nodes, body.loaded_on],
      [model, 'newer', 'qwen3', ['tools'], ['a', 'b'], ['b', 'c']],
    )
    const memory = {
      digest: `digest of ${model}`,
      size: 1,
      size_vram: 1,
      context_length: 4096,
      expires_at: '2026-01-01T00:05:00Z',
    }
    const disk = { digest: `digest of ${model}`, size: 1, modified_at: '2026-01-01T00:00:00Z', newest: false }
    const newer = { digest: 'newer', size: 1, modified_at: '2026-02-01T00:00:00Z', newest: true }
    assert.deepEqual(body.copies, [
      { node: 'a', health: 'up', disk, memory: null },
      { node: 'b', health: 'down', disk: newer, memory },
      { node: 'c', health: 'up', disk: null, memory },
    ])
  }
})

test('an invalid name and an unknown model are not found', async () => {
  await using admin = await startModelAdmin(aFleet())
  for (const name of ['none', '%2E%2E%2Fx', '%20', '%zz', 'loaded:latest']) {
    const { status, body } = await admin.ask('GET', `models/${name}`)
    assert.deepEqual([status, body.error.code], [404, 'model_not_found'])
  }
  assert.deepEqual(Object.keys((await admin.ask('GET', 'models/loaded')).body), ['apiVersion', 'loaded'])
})

test('the names that routes give to models are listed and shown as aliases of them (333)', async () => {
  const routes = new Map([
    ['a', routeSchema.parse({ match: { model: 'Assistant' }, model })],
    ['b', routeSchema.parse({ match: { model: 'assistant', tenant: 'web' }, model })],
    ['c', routeSchema.parse({ match: { model: 'gone' }, model: 'none:1b' })],
  ])
  await using admin = await startModelAdmin(buildSnapshot({ ...aDocuments({ nodes }), routes }))
  const { body } = await admin.ask('GET', 'models')
  const rows = body.models.map((row: Record<string, unknown>) => [
    row['name'],
    row['alias_of'],
    row['digest'],
  ])
  assert.deepEqual(rows, [
    ['assistant:latest', model, `digest of ${model}`],
    [model, null, `digest of ${model}`],
    ['other:latest', null, 'digest of other:latest'],
  ])
  const shown = (await admin.ask('GET', 'models/assistant')).body
  assert.deepEqual([shown.name, shown.alias_of, shown.nodes], ['assistant:latest', model, ['a', 'b']])
})
