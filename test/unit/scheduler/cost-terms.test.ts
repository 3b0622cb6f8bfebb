import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Candidate } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, without } from '../../support/core.ts'

/**
 * Numbers to compute with: a model of 5 GB on a node of speed 1 decodes 60 tokens/s (1/60 s each) and reads 1500
 * tokens/s; a load takes 1 + 5/1.5 s. A request of 1000 and 100 tokens: 2/3 s and 5/3 s.
 */
const prefill = 1000 / 1500
const decode = 100 / 60

function close(actual: number | undefined, expected: number, what = ''): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-6, `${what} ${actual}, not ${expected}`)
}

/** The cost terms of the only candidate, or of a node. */
function termsOf(candidates: readonly Candidate[], node = 'n'): Candidate {
  const candidate = candidates.find((each) => each.node === node)
  assert.ok(candidate)
  return candidate
}

suite('the cost of a place', () => {
  test('on an idle node is the time to read the prompt and a quarter of the time to write the answer', () => {
    const { core, clock } = aCore([aNode()])
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'ready')
    close(terms.prefill, prefill, 'prefill')
    close(terms.decode, decode, 'decode')
    close(terms.cost, prefill + 0.25 * decode, 'cost')
  })

  test('counts that another stream of the runner slows both, and stalls while the prompt is read', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 4 })])
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.decode, decode * 1.15, 'decode')
    // 100 common tokens at 0.6 x 0.15 of the time per token, and 0.3 of the prefill for one stream.
    const externality = (100 * 0.6 * 0.15) / 60 + 0.3 * prefill
    close(terms.externality, externality, 'externality')
    close(terms.cost, prefill + 0.25 * decode * 1.15 + 0.8 * externality, 'cost')
  })

  test('counts that a second runner shares the GPU: all takes twice as long, and the other stream pays a quarter', () => {
    const node = aNode({ models: { a: 5, b: 5 }, loaded: ['a', 'b'] })
    const { core, clock, arrive } = aCore([node])
    arrive({ model: 'b', id: 'other' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.prefill, 2 * prefill, 'prefill')
    close(terms.decode, 2 * decode, 'decode')
    close(terms.externality, 0.3 * 2 * prefill + 0.25 * 2 * decode, 'externality')
  })

  test('of a full runner includes the wait until the surplus requests have ended', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 1 })])
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'full')
    close(terms.start, prefill + decode, 'start')
  })

  test('of a model that is not in memory includes its load and the penalty for its victims', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node, aNode({ name: 'other', models: { b: 20 }, loaded: [] })])
    arrive({ id: 'popular', model: 'b' })
    // b is idle; one arrival in 90 s of memory makes a penalty of 45/90 loads.
    core.take({ type: 'left', id: 'popular' }, clock.now)
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'absent')
    close(terms.start, 1 + 5 / 1.5, 'start')
    close(terms.eviction, (1 + 20 / 1.5) * 0.5, 'eviction')
  })

  test('has a lower penalty for a victim with replicas', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node, aNode({ name: 'other', models: { b: 20 }, loaded: ['b'] })])
    arrive({ id: 'popular', model: 'b' })
    core.take({ type: 'left', id: 'popular' }, clock.now)
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.eviction, ((1 + 20 / 1.5) * 0.5) / 2.4, 'eviction')
  })

  test('includes the wait for the requests of a busy victim, and then the load', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node])
    arrive({ id: 'busy', model: 'b' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.start, 4 * (prefill + decode) + 1 + 5 / 1.5, 'start')
  })

  test('of an embedding includes no decode', () => {
    const { core, clock } = aCore([aNode()])
    const { decode: written, cost } = termsOf(core.explain(aRequest({ embeds: true }), clock.now).candidates)
    assert.equal(written, 0)
    close(cost, prefill, 'cost')
  })

  test('assumes that a model partly outside of the GPU is eight times slower', () => {
    const node = aNode()
    const half = node.resident.map((runner) => ({ ...runner, sizeVram: runner.size / 2 }))
    const { core, clock } = aCore([{ ...node, resident: half }])
    close(termsOf(core.explain(aRequest(), clock.now).candidates).decode, 8 * decode, 'decode')
  })

  test('without the externality term only counts the time of the request itself', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 4 })], without('externality'))
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.externality, 0)
    close(terms.cost, prefill + 0.25 * decode * 1.15, 'cost')
  })

  test('decides a tie for the place with more free slots', () => {
    const { arrive } = aCore([aNode({ name: 'few', slots: 2 }), aNode({ name: 'many', slots: 4 })])
    const [effect] = arrive({ id: 'r' })
    assert.ok(effect?.type === 'start')
    assert.equal(effect.node, 'many')
    assert.deepEqual(
      effect.decision.candidates.map(({ node }) => node),
      ['many', 'few'],
    )
  })
})
