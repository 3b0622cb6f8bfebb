import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Effect } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, aResident, briefly, type Changes, without } from '../../support/core.ts'

const patience: Changes = { admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6 } }
/** A conversation of so many messages, 500 tokens each. */
const talk = (messages: number, first = 100) =>
  Array.from({ length: messages }, (_, nth) => ({ hash: first + nth, tokens: 500 * (nth + 1) }))

const nodes = [aNode({ name: 'n1', slots: 2 }), aNode({ name: 'n2', slots: 2 })]

function reasonOf([effect]: readonly Effect[]) {
  assert.ok(effect?.type === 'start')
  return [effect.node, effect.decision.reason]
}

/** A conversation whose first turn was served on the node. */
function talked(node: string, changes: Changes = {}) {
  const cluster = aCore(nodes, { ...patience, ...changes })
  const others = new Set(nodes.map(({ name }) => name).filter((name) => name !== node))
  cluster.arrive({ id: 'turn1', prefixes: talk(2), tried: others })
  cluster.after(1, { type: 'first-token', id: 'turn1' })
  cluster.end('turn1')
  return cluster
}

suite('affinity', () => {
  for (const node of ['n1', 'n2'])
    test(`the next turn goes to the node that read the last one (${node})`, () => {
      const { arrive } = talked(node)
      assert.deepEqual(reasonOf(arrive({ id: 'turn2', prefixes: talk(4), promptTokens: 2000 })), [
        node,
        'affinity',
      ])
    })

  test('cached tokens need not be read: they lower the prefill cost', () => {
    const { core, clock } = talked('n1')
    const { candidates } = core.explain(
      aRequest({ id: 'x', prefixes: talk(4), promptTokens: 2000 }),
      clock.now,
    )
    const prefill = Object.fromEntries(candidates.map((each) => [each.node, each.prefill]))
    assert.equal(((prefill['n1'] ?? 0) / (prefill['n2'] ?? 1)).toFixed(1), '0.5')
  })

  test('affinity is a cost, not a rule: a busy node with the prompt loses to an idle one', () => {
    const { arrive } = talked('n1')
    const [others] = [new Set(['n2'])]
    arrive({ id: 'busy1', tried: others, maxTokens: 4000 }, { id: 'busy2', tried: others, maxTokens: 4000 })
    assert.deepEqual(reasonOf(arrive({ id: 'turn2', prefixes: talk(4), promptTokens: 2000 })), [
      'n2',
      'spill',
    ])
  })

  test('an unload empties the cache', () => {
    const { core, clock, tell } = talked('n1')
    tell({ type: 'fleet', nodes: nodes.map((node) => ({ ...node, resident: [] })) })
    tell({ type: 'fleet', nodes: nodes.map((node) => ({ ...node, resident: [aResident({ model: 'a' })] })) })
    const { candidates } = core.explain(aRequest({ id: 'x', prefixes: talk(4) }), clock.now)
    assert.equal(new Set(candidates.map(({ prefill }) => prefill.toFixed(9))).size, 1)
  })

  test('expected cache hits that do not occur lower the expectation', () => {
    const { core, clock, arrive, after, end } = aCore([aNode()], patience)
    const promise = () => {
      const { candidates } = core.explain(aRequest({ id: 'x', prefixes: talk(2) }), clock.now)
      return candidates[0]?.prefill ?? 0
    }
    const whole = promise()
    for (let nth = 0; nth < 10; nth++) {
      arrive({ id: `${nth}`, prefixes: talk(2) })
      after(1)
      // The node reads the whole prompt each time.
      end(`${nth}`, { promptEval: 1000 / 1500 })
    }
    assert.ok(promise() > 0.5 * whole, `${promise()} of ${whole}`)
  })

  test('the least recently used conversations are forgotten', () => {
    const { core, clock, arrive, after, end } = aCore([aNode()], { ...patience, prefixes: 4 } as Changes)
    for (const first of [100, 200, 300]) {
      arrive({ id: `${first}`, prefixes: talk(2, first) })
      after(1)
      end(`${first}`)
    }
    const prefill = (first: number) =>
      core.explain(aRequest({ id: 'x', prefixes: talk(2, first) }), clock.now).candidates[0]?.prefill ?? 0
    assert.ok(prefill(100) > 2 * prefill(300))
  })

  test('without affinity a conversation is scheduled like any request', () => {
    const { core, clock } = talked('n1', without('affinity'))
    const { candidates } = core.explain(aRequest({ id: 'x', prefixes: talk(4) }), clock.now)
    assert.equal(new Set(candidates.map(({ prefill }) => prefill.toFixed(9))).size, 1)
  })

  test('a retry avoids the node that failed it, and no request goes to a node with other labels', () => {
    const labelled = nodes.map((node) => ({ ...node, labels: { gpu: node.name } }))
    const { arrive } = aCore(labelled, patience)
    assert.deepEqual(briefly(arrive({ id: 'x', tried: new Set(['n1']) })), ['x on n2'])
    assert.deepEqual(briefly(arrive({ id: 'y', labels: { gpu: 'n1' } })), ['y on n1'])
  })
})
