import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { NodeFacts, SchedulingRequest } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, briefly, type Changes } from '../../support/core.ts'

const patience: Changes = {
  classes: { low: { rank: 1, ttftS: 5, limitS: 1e6 } },
  admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6, evidence: 1e9 },
}
const full = aNode({ name: 'full', labels: { pool: 'x' } })
const other = (facts: Parameters<typeof aNode>[0] = {}) => aNode({ name: 'other', ...facts })

/** One taken slot, and so many requests that wait for it. */
function crowd(nodes: readonly NodeFacts[], count: number, request: Partial<SchedulingRequest> = {}) {
  const cluster = aCore(nodes, patience)
  const asks = Array.from({ length: count + 1 }, (_, nth) => ({ id: `w${nth}`, ...request }))
  assert.deepEqual(briefly(cluster.arrive(...asks)), ['w0 on full'])
  return cluster
}

suite('requests that wait for a full node', () => {
  for (const count of [50, 100, 300])
    test(`${count} of them do not keep a request for another model from an idle node (381)`, () => {
      const nodes = [full, other({ models: { b: 5 }, loaded: ['b'] })]
      const { arrive } = crowd(nodes, count)
      assert.deepEqual(briefly(arrive({ id: 'x', model: 'b' })), ['x on other'])
    })

  const siblings: readonly (readonly [
    what: string,
    node: NodeFacts,
    ask: Partial<SchedulingRequest>,
    waits: Partial<SchedulingRequest>,
  ])[] = [
    ['a model that only has to be loaded', other({ models: { b: 5 }, loaded: [] }), { model: 'b' }, {}],
    [
      'a model of a lower class',
      other({ models: { b: 5 }, loaded: ['b'] }),
      { model: 'b', class: 'low' },
      {},
    ],
    ['another tenant and model', other({ models: { b: 5 }, loaded: ['b'] }), { model: 'b', tenant: 'u' }, {}],
    ['the same model without their labels', other(), {}, { labels: { pool: 'x' } }],
    ['the same model, if the node failed only them', other(), {}, { tried: new Set(['other']) }],
  ]
  for (const [what, node, ask, waits] of siblings)
    test(`100 of them do not hold up ${what} (381)`, () => {
      const { arrive } = crowd([full, node], 100, waits)
      const [effect] = arrive({ id: 'x', ...ask })
      assert.ok(
        effect && effect.type !== 'refuse' && effect.node === 'other',
        briefly(effect ? [effect] : [])[0],
      )
    })

  test('100 of them for each of 60 variants do not hold up a request for an idle node (381)', () => {
    const cluster = aCore([full, other({ models: { b: 5 }, loaded: ['b'] })], patience)
    const asks = Array.from({ length: 6000 }, (_, nth) => ({ id: `w${nth}`, variant: `v${nth % 60}` }))
    cluster.arrive(...asks)
    assert.deepEqual(briefly(cluster.arrive({ id: 'x', model: 'b' })), ['x on other'])
    cluster.after(0.5)
    assert.deepEqual(briefly(cluster.after(0.5, { type: 'left', id: 'x' })), [])
    assert.deepEqual(briefly(cluster.arrive({ id: 'y', model: 'b' })), ['y on other'])
  })

  test('start in order as slots become free, regardless of other queued requests (381)', () => {
    const nodes = [full, other({ models: { b: 5 }, loaded: ['b'] })]
    const { arrive, end } = crowd(nodes, 60)
    arrive(...Array.from({ length: 60 }, (_, nth) => ({ id: `b${nth}`, model: 'b' })))
    assert.deepEqual(briefly(end('w0')), ['w1 on full'])
    assert.deepEqual(briefly(end('b0')), ['b1 on other'])
    assert.deepEqual(briefly(end('w1')), ['w2 on full'])
  })

  test('start in one pass if there are slots, in any number (381)', () => {
    const { arrive } = aCore([aNode({ slots: 200 })], patience)
    assert.equal(arrive(...Array.from({ length: 200 }, (_, nth) => ({ id: `w${nth}` }))).length, 200)
  })
})
