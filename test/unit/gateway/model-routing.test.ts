import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildSnapshot } from '../../../lib/fleet/snapshot.ts'
import { absent } from '../../../lib/gateway/admission/model-routing.ts'
import { aDocuments } from '../../support/fleet.ts'

test('a model is not called absent before a slow node has listed its models (302)', () => {
  for (const [health, version, code] of [
    ['slow', '', 'not_ready'],
    ['slow', '0.12.6', 'model_not_found'],
    ['down', '', 'model_not_found'],
  ] as const) {
    const documents = aDocuments({ nodes: [{ name: 'a', models: [], health }] })
    const statuses = new Map([...documents.statuses].map(([name, status]) => [name, { ...status, version }]))
    assert.equal(absent('m', buildSnapshot({ ...documents, statuses })).code, code)
  }
})
