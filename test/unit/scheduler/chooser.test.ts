import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Policy } from '../../../lib/fleet/policies.ts'
import type { SchedulingRequest } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, briefly } from '../../support/core.ts'

const models = { a: 5, b: 5 }
const nodes = [
  aNode({ name: 'small', models, loaded: ['a'], weight: 1 }),
  aNode({ name: 'large', models, loaded: ['b'], weight: 3, slots: 4 }),
]

/** The nodes that the requests go to, in order. */
function sent(policy: Policy, requests: readonly Partial<SchedulingRequest>[]): string[] {
  const { arrive } = aCore(nodes, {}, policy)
  return requests.map((request, nth) =>
    briefly(arrive({ id: `r${nth}`, ...request }))
      .join()
      .replace(`r${nth} on `, ''),
  )
}

const four = [{}, {}, {}, {}]

suite('the baseline policies', () => {
  test('least connections: the node with fewest requests, regardless of memory', () => {
    const [first, ...rest] = sent('least-connections', four)
    const other = first === 'small' ? 'large' : 'small'
    assert.equal(rest[0], other)
    assert.equal(rest.concat(first ?? '').filter((node) => node === 'small').length, 2)
  })

  test('round robin: each in turn', () => {
    assert.deepEqual(sent('round-robin', four), ['small', 'large', 'small', 'large'])
  })

  test('round robin passes over a node that failed the request', () => {
    assert.deepEqual(sent('round-robin', [{ tried: new Set(['small']) }, {}]), ['large', 'small'])
  })

  test('weighted: by running requests per weight', () => {
    const where = sent('weighted', [{}, {}, {}])
    assert.deepEqual([where[0], where[1]], ['large', 'large'])
  })

  test('resident first: nodes with the model in memory, until they are full', () => {
    assert.deepEqual(sent('resident-first', [{ model: 'a' }, { model: 'a' }]), ['small', 'large'])
    assert.deepEqual(sent('resident-first', [{ model: 'b' }, { model: 'b' }]), ['large', 'large'])
  })

  test('predict the time to the first token, also if the model has to be loaded', () => {
    const { arrive } = aCore([aNode({ models, loaded: ['a'] })], {}, 'round-robin')
    for (const [nth, model] of ['b', 'a', 'b'].entries()) {
      const [effect] = arrive({ id: `r${nth}`, model })
      assert.ok(effect?.type === 'start' && Number.isFinite(effect.decision.ttft), `request ${nth}`)
    }
  })

  for (const policy of ['least-connections', 'round-robin', 'weighted', 'resident-first'] as const)
    test(`${policy} sends every request on at once, loads nothing, and refuses only without a node`, () => {
      const { arrive } = aCore(nodes, {}, policy)
      const effects = arrive(...Array.from({ length: 60 }, (_, nth) => ({ id: `r${nth}` })), {
        id: 'z',
        model: 'z',
      })
      assert.equal(effects.filter(({ type }) => type === 'start').length, 60)
      assert.deepEqual(briefly(effects.filter(({ type }) => type !== 'start')), ['z no-node'])
    })

  test('without residency a request may go to a node without its model in memory', () => {
    const { arrive } = aCore([aNode({ loaded: [] })], { uses: { residency: false } })
    assert.deepEqual(briefly(arrive({ id: 'r' })), ['r on n'])
  })

  test('without late binding requests wait on the node', () => {
    const { arrive } = aCore([aNode()], { uses: { lateBinding: false } })
    assert.deepEqual(briefly(arrive({ id: 'r' }, { id: 's' })), ['r on n', 's on n'])
  })
})
