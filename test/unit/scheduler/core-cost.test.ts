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

/** The terms of the only candidate, or of a node's. */
function termsOf(candidates: readonly Candidate[], node = 'n'): Candidate {
  const candidate = candidates.find((each) => each.node === node)
  assert.ok(candidate)
  return candidate
}

suite('the cost of a place', () => {
  test('on an idle node it is reading the prompt, and a quarter of writing the answer', () => {
    const { core, clock } = aCore([aNode()])
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'ready')
    close(terms.prefill, prefill, 'prefill')
    close(terms.decode, decode, 'decode')
    close(terms.cost, prefill + 0.25 * decode, 'cost')
  })

  test('a stream of the same runner slows both, and stalls while the prompt is read', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 4 })])
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.decode, decode * 1.15, 'decode')
    // 100 tokens in common at 0.6 x 0.15 of a token's time, and 0.3 of the prefill for one stream.
    const externality = (100 * 0.6 * 0.15) / 60 + 0.3 * prefill
    close(terms.externality, externality, 'externality')
    close(terms.cost, prefill + 0.25 * decode * 1.15 + 0.8 * externality, 'cost')
  })

  test('a second runner shares the GPU: all takes twice as long, and the other stream pays a quarter', () => {
    const node = aNode({ models: { a: 5, b: 5 }, loaded: ['a', 'b'] })
    const { core, clock, arrive } = aCore([node])
    arrive({ model: 'b', id: 'other' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.prefill, 2 * prefill, 'prefill')
    close(terms.decode, 2 * decode, 'decode')
    close(terms.externality, 0.3 * 2 * prefill + 0.25 * 2 * decode, 'externality')
  })

  test('a full runner costs the wait until as many have ended as are too many', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 1 })])
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'full')
    close(terms.start, prefill + decode, 'start')
  })

  test('a model that is not in memory costs its load, and what its victims will be missed', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node, aNode({ name: 'other', models: { b: 20 }, loaded: [] })])
    arrive({ id: 'popular', model: 'b' })
    // What b does is over; one arrival in 90 s of memory makes it missed by 45/90.
    core.take({ type: 'left', id: 'popular' }, clock.now)
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.state, 'absent')
    close(terms.start, 1 + 5 / 1.5, 'start')
    close(terms.eviction, (1 + 20 / 1.5) * 0.5, 'eviction')
  })

  test('a model with replicas is missed less', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node, aNode({ name: 'other', models: { b: 20 }, loaded: ['b'] })])
    arrive({ id: 'popular', model: 'b' })
    core.take({ type: 'left', id: 'popular' }, clock.now)
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.eviction, ((1 + 20 / 1.5) * 0.5) / 2.4, 'eviction')
  })

  test('who waits for a busy victim waits for its end, and then for the load', () => {
    const node = aNode({ models: { a: 5, b: 20 }, loaded: ['b'] })
    const { core, clock, arrive } = aCore([node])
    arrive({ id: 'busy', model: 'b' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    close(terms.start, 4 * (prefill + decode) + 1 + 5 / 1.5, 'start')
  })

  test('embedding decodes nothing', () => {
    const { core, clock } = aCore([aNode()])
    const { decode: written, cost } = termsOf(core.explain(aRequest({ embeds: true }), clock.now).candidates)
    assert.equal(written, 0)
    close(cost, prefill, 'cost')
  })

  test('a model partly outside of the GPU is taken for eight times as slow', () => {
    const node = aNode()
    const half = node.resident.map((runner) => ({ ...runner, sizeVram: runner.size / 2 }))
    const { core, clock } = aCore([{ ...node, resident: half }])
    close(termsOf(core.explain(aRequest(), clock.now).candidates).decode, 8 * decode, 'decode')
  })

  test('without its externality term a place costs only what it does to the request itself', () => {
    const { core, clock, arrive } = aCore([aNode({ slots: 4 })], without('externality'))
    arrive({ id: 'first' })
    const terms = termsOf(core.explain(aRequest(), clock.now).candidates)
    assert.equal(terms.externality, 0)
    close(terms.cost, prefill + 0.25 * decode * 1.15, 'cost')
  })

  test('of places that cost about the same the one with more free slots is taken', () => {
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
