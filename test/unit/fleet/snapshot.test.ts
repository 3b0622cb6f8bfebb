import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import { buildSnapshot, type Documents, emptyDocuments, type Snapshot } from '../../../lib/fleet/snapshot.ts'
import { aDocuments } from '../../support/fleet.ts'

const nodeNames = ['a', 'b', 'c', 'd']
const node = fc.record({
  name: fc.constantFrom(...nodeNames),
  state: fc.constantFrom('active' as const, 'cordoned' as const, 'off' as const),
  health: fc.constantFrom('up' as const, 'down' as const, 'unknown' as const),
  copies: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('m:latest', 'n:1b', 'o:2b'),
      digest: fc.constantFrom('one', 'two'),
      modified_at: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-01T09:30:00+09:00', 'no date'),
      details: fc.constantFrom({}, { family: 'llama' }),
    }),
    { selector: ({ name }) => name },
  ),
  loaded: fc.subarray(['m:latest', 'n:1b']),
})
const fleets = fc.array(
  fc.record({
    nodes: fc.uniqueArray(node, { selector: ({ name }) => name }),
    slots: fc.integer({ min: 1, max: 2 }),
  }),
  { minLength: 2, maxLength: 6 },
)

type Sketch = (typeof fleets extends fc.Arbitrary<infer T> ? T : never)[number]

/** Documents of a fleet; what is said in the words of `before` is the same object, as it is in the store's copy. */
function documentsOf(sketch: Sketch, before: Documents): Documents {
  const { nodes, statuses, config } = aDocuments({
    nodes: sketch.nodes.map(({ copies: _, ...rest }) => rest),
    config: { routing: { default_slots: sketch.slots } },
  })
  const told = [...statuses].map(([name, status]): [string, NodeStatus] => {
    const copies = sketch.nodes.find((each) => each.name === name)?.copies ?? []
    return [name, { ...status, models: copies.map((copy) => ({ ...copy, size: 1 })) }]
  })
  return {
    ...emptyDocuments,
    config,
    nodes: new Map([...nodes].map(([name, spec]) => [name, unchanged(before.nodes.get(name), spec)])),
    statuses: new Map(told.map(([name, status]) => [name, unchanged(before.statuses.get(name), status)])),
  }
}

function unchanged<T>(before: T | undefined, now: T): T {
  return JSON.stringify(before) === JSON.stringify(now) && before ? before : now
}

/** With the order of what has one. */
function plain(snapshot: Snapshot) {
  return { ...snapshot, nodes: [...snapshot.nodes], models: [...snapshot.models] }
}

test('the same documents give the same snapshot, independent of the former one', () => {
  fc.assert(
    fc.property(fleets, (sketches) => {
      let documents = emptyDocuments
      let snapshot = buildSnapshot(documents)
      for (const sketch of sketches) {
        documents = documentsOf(sketch, documents)
        snapshot = buildSnapshot(documents, snapshot)
        assert.deepEqual(plain(snapshot), plain(buildSnapshot(documents)))
      }
    }),
  )
})

/** A fleet of 1000 nodes, each with 50 of 200 models. */
function largeFleet(): Documents {
  return aDocuments({
    nodes: Array.from({ length: 1000 }, (_, nth) => ({
      name: `node-${nth}`,
      models: Array.from({ length: 50 }, (_, model) => `model-${(nth * 7 + model) % 200}:latest`),
    })),
  })
}

function withStatus(documents: Documents, name: string, change: Partial<NodeStatus>): Documents {
  const status = documents.statuses.get(name)
  assert.ok(status)
  return { ...documents, statuses: new Map(documents.statuses).set(name, { ...status, ...change }) }
}

/** How many values of one map are not in the other under the same name. */
function fresh(now: ReadonlyMap<string, unknown>, before: ReadonlyMap<string, unknown>): number {
  return [...now].filter(([name, value]) => before.get(name) !== value).length
}

test('of a thousand nodes, a change of one health makes one new view, and none of a model', () => {
  const documents = largeFleet()
  const before = buildSnapshot(documents)
  const after = buildSnapshot(withStatus(documents, 'node-7', { health: 'down' }), before)
  assert.equal(after.nodes.get('node-7')?.health, 'down')
  assert.equal(fresh(after.nodes, before.nodes), 1)
  assert.equal(after.models, before.models)
})

test('a model pulled to one node of a thousand makes one new view of a node and one of a model', () => {
  const documents = largeFleet()
  const before = buildSnapshot(documents)
  const models = structuredClone(documents.statuses.get('node-7')?.models ?? [])
  const pulled = {
    name: 'new:latest',
    digest: 'd',
    size: 1,
    modified_at: '2026-02-01T00:00:00Z',
    details: {},
  }
  const after = buildSnapshot(withStatus(documents, 'node-7', { models: [...models, pulled] }), before)
  assert.deepEqual(after.models.get('new:latest')?.presentOn, ['node-7'])
  assert.deepEqual([fresh(after.nodes, before.nodes), fresh(after.models, before.models)], [1, 1])
})
