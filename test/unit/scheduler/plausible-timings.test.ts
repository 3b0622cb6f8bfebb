import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { SchedulingRequest, Timings } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, briefly, type Changes, someTimings } from '../../support/core.ts'

const patience: Changes = { admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6, evidence: 1e9 } }

/** Serves requests that take two seconds to read and four to write; the node reports other timings. */
function served(
  told: Partial<Timings>,
  { request = {}, count = 30 }: { request?: Partial<SchedulingRequest>; count?: number } = {},
) {
  const cluster = aCore([aNode({ name: 'liar' }), aNode({ name: 'idle' })], patience)
  const timings = { ...someTimings({ promptEval: 2, eval: 4 }), ...told }
  for (let nth = 0; nth < count; nth++) {
    const id = `r${nth}`
    cluster.arrive({ id, streams: true, tried: new Set(['idle']), ...request })
    cluster.after(2, ...(request.streams === false ? [] : [{ type: 'first-token', id } as const]))
    cluster.after(4, { type: 'ended', id, timings, written: 100 })
  }
  return cluster
}

function expectedOf({ core, clock }: ReturnType<typeof aCore>) {
  const { candidates } = core.explain(aRequest({ id: 'x' }), clock.now)
  const candidate = candidates.find(({ node }) => node === 'liar')
  assert.ok(candidate)
  return candidate
}

suite('impossible timings', () => {
  const lies: readonly (readonly [what: string, told: Partial<Timings>])[] = [
    ['18 tokens in 1 ns', { outputTokens: 18, promptEval: 1e-9, eval: 1e-9, total: 1e-9 }],
    ['no time at all', { promptEval: 0, eval: 0, total: 0, load: 0 }],
    ['nothing but waiting', { promptEval: 0, eval: 0, total: 6 }],
    ['parts longer than the total', { promptEval: 1e6, eval: 1e6, total: 1 }],
    ['a load of eleven days', { load: 1e6 }],
    ['ten million prompt tokens', { promptTokens: 1e7, promptEval: 1e-9 }],
    ['ten million tokens written', { outputTokens: 1e7, eval: 1e-9 }],
  ]
  for (const [what, told] of lies)
    for (const streams of [true, false])
      test(`a node that reports ${what} looks neither instant nor dead, ${streams ? 'streamed' : 'whole'} (385)`, () => {
        const { decode, prefill, cost } = expectedOf(served(told, { request: { streams } }))
        // The truth is 2 s and 4 s. Without learning the prior for this size holds: 0.7 s and 1/60 s a token.
        assert.ok(prefill >= (streams ? 0.5 : 0.1) && prefill <= 8, `prefill ${prefill}`)
        assert.ok(decode >= 0.25 && decode <= 60, `decode ${decode}`)
        assert.ok(cost < 60, `cost ${cost}`)
      })

  test('a tenant is not charged for tokens that could not be written in that time (385)', () => {
    const { arrive, tell } = served({ outputTokens: 1e7 }, { request: { tenant: 'victim' }, count: 1 })
    const others = { tried: new Set(['idle']) }
    arrive({ id: 'first', tenant: 'other', ...others })
    arrive(...Array.from({ length: 90 }, (_, nth) => ({ id: `o${nth}`, tenant: 'other', ...others })))
    arrive({ id: 'v', tenant: 'victim', ...others })
    let running = 'first'
    for (let nth = 0; nth < 91 && running !== 'v'; nth++) {
      const [effect] = tell({ type: 'ended', id: running, timings: null, written: 100 })
      running = effect?.type === 'start' ? effect.id : ''
    }
    assert.equal(running, 'v')
  })

  test('a caller that reads slowly does not make its node look slow (385)', () => {
    const honest = expectedOf(served({ promptEval: 2, eval: 0.5, total: 2.5, isReadSlowly: true }))
    assert.ok(honest.decode < 0.8, `${honest.decode}`)
  })

  test('a request whose wait is overdue takes a free slot elsewhere (385)', () => {
    const nodes = [aNode({ name: 'fast', expectedSpeed: 1000 }), aNode({ name: 'idle', expectedSpeed: 0.5 })]
    const { arrive, after } = aCore(nodes, patience)
    arrive({ id: 'first' })
    assert.deepEqual(briefly(arrive({ id: 'x' })), [], 'the slot is expected to be free at once')
    const started: string[] = []
    let seconds = 0
    for (; started.length === 0 && seconds < 30; seconds++) started.push(...briefly(after(1)))
    assert.deepEqual(started, ['x on idle'])
    assert.ok(seconds < 8, `after ${seconds} s`)
  })

  test('a request whose wait is not overdue takes no slot that costs more (385)', () => {
    const nodes = [aNode({ name: 'fast' }), aNode({ name: 'slow', expectedSpeed: 0.05 })]
    const { arrive, after, end } = aCore(nodes, patience)
    arrive({ id: 'first' }, { id: 'x' })
    assert.deepEqual(briefly(after(2)), [])
    assert.deepEqual(briefly(end('first')), ['x on fast'])
  })
})

suite('embeddings', () => {
  const embeds = { embeds: true, streams: false, maxTokens: null } as const
  const whole = (seconds: number): Timings => ({
    total: seconds,
    load: 0,
    promptEval: seconds,
    eval: 0,
    promptTokens: 1000,
    outputTokens: 0,
    fromOutside: true,
  })
  const stories = [
    ['by the total of its node', (seconds: number) => whole(seconds)],
    ['by what was seen from here, where the node tells no times', () => null],
  ] as const
  for (const [how, timingsOf] of stories)
    test(`a slow node is told from a fast one ${how} (364)`, () => {
      const cluster = aCore([aNode({ name: 'slow' }), aNode({ name: 'fast' })], patience)
      for (const [node, other, seconds] of [
        ['slow', 'fast', 4],
        ['fast', 'slow', 0.1],
      ] as const)
        for (let nth = 0; nth < 10; nth++) {
          const id = `${node}${nth}`
          cluster.arrive({ id, tried: new Set([other]), ...embeds })
          cluster.after(seconds, { type: 'ended', id, timings: timingsOf(seconds), written: 0 })
        }
      const { candidates } = cluster.core.explain(aRequest({ id: 'x', ...embeds }), cluster.clock.now)
      const [best, last] = candidates
      assert.equal(best?.node, 'fast')
      assert.ok((best?.prefill ?? 1) < 0.35, `fast: ${best?.prefill}`)
      assert.ok((last?.prefill ?? 0) > 2.5, `slow: ${last?.prefill}`)
      assert.deepEqual(briefly(cluster.arrive({ id: 'next', ...embeds })), ['next on fast'])
    })

  test('actual times are recorded beside predicted ones, and slots are not learned (364)', () => {
    const { core, arrive, after } = aCore([aNode({ slots: null })], patience)
    for (let nth = 0; nth < 20; nth++) {
      arrive({ id: `r${nth}`, ...embeds }, { id: `s${nth}`, ...embeds })
      after(
        2,
        { type: 'ended', id: `r${nth}`, timings: whole(2) },
        { type: 'ended', id: `s${nth}`, timings: whole(2) },
      )
      after(0, { type: 'left', id: `s${nth}` })
    }
    assert.equal(core.learned().nodes['n']?.runners['a\n']?.slots, null)
    assert.equal(core.decisions()[0]?.ttft !== null || core.decisions()[1]?.ttft !== null, true)
  })
})
