import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { SchedulingRequest } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, briefly, type Changes, someTimings } from '../../support/core.ts'

/** One slot; a request of 1000 prompt and 100 output tokens holds it for 2/3 + 5/3 s. */
const node = aNode()
const eachS = 1000 / 1500 + 100 / 60
/** The same for an answer of the default expected length. */
const averageS = 1000 / 1500 + 211 / 60
const open: Changes = { admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6, evidence: 1e9 } }
const many = (count: number, request: Partial<SchedulingRequest> = {}) =>
  Array.from({ length: count }, (_, nth) => ({ id: `r${nth}`, ...request }))

suite('admission', () => {
  test('a request that would wait too long for its first token is refused at once, with the time to retry', () => {
    const { arrive } = aCore([node], { admission: { tenantS: 1e6 } })
    const effects = arrive(...many(12))
    const refused = effects.filter((effect) => effect.type === 'refuse')
    // 10 s of waiting and reading: the running request and three more.
    assert.deepEqual(
      refused.map(({ id }) => id),
      many(8).map((_, nth) => `r${11 - nth}`),
    )
    assert.ok(refused.every(({ reason }) => reason === 'no-capacity'))
    assert.ok(Math.abs((refused[0]?.retryAfterS ?? 0) - 11 * eachS) < 0.01, `${refused[0]?.retryAfterS}`)
  })

  for (const [roll, factor] of [
    [0, 0.8],
    [0.25, 0.9],
    [0.999_999, 1.2],
  ] as const)
    test(`a refused caller is told to retry after ${factor} times the predicted wait, for the random number ${roll}`, () => {
      const { arrive } = aCore([node], { admission: { tenantS: 1e6 } }, 'earliest-finish', () => roll)
      const refused = arrive(...many(12)).find((effect) => effect.type === 'refuse')
      assert.ok(Math.abs((refused?.retryAfterS ?? 0) - 11 * eachS * factor) < 0.01, `${refused?.retryAfterS}`)
    })

  test('a class with a higher limit may wait longer', () => {
    const classes = { patient: { rank: 0, ttftS: 5, limitS: 200 } }
    const { arrive } = aCore([node], { classes, admission: { tenantS: 1e6 } })
    assert.deepEqual(briefly(arrive(...many(12, { class: 'patient' }))), ['r0 on n'])
  })

  test('a tenant may have one minute of work queued', () => {
    const { arrive } = aCore([node], { ...open, admission: { ...open.admission, tenantS: 10.5 * averageS } })
    const effects = arrive(...many(14, { tenant: 'greedy' }))
    assert.deepEqual(
      briefly(effects).slice(1),
      ['r13', 'r12', 'r11'].map((id) => `${id} tenant-full`),
    )
    assert.deepEqual(briefly(arrive({ id: 'x', tenant: 'other' })), [], 'others may come')
  })

  const classes = {
    urgent: { rank: 0, ttftS: 5, limitS: 60 },
    batch: { rank: 1, ttftS: 50, limitS: 600 },
  }

  test('the queued work of a tenant in one class does not keep it out of another class', () => {
    const { arrive } = aCore([node], { ...open, classes, admission: { ...open.admission, tenantS: 60 } })
    const effects = arrive(...many(200, { tenant: 'greedy', class: 'batch' }))
    const refused = effects.filter((effect) => effect.type === 'refuse')
    assert.ok(refused.every(({ reason }) => reason === 'tenant-full'))
    // Ten minutes of work: as much as the class may wait.
    assert.ok(Math.abs(refused.length - (199 - 600 / averageS)) <= 1, `${refused.length}`)
    assert.deepEqual(briefly(arrive({ id: 'x', tenant: 'greedy', class: 'urgent' })), [])
  })

  test('when the queue is too long, requests of the lowest class are removed, those of the tenant with most first, and none that a node failed', () => {
    const { core, arrive } = aCore([node], {
      ...open,
      classes,
      admission: { ...open.admission, maxQueued: 4 },
    })
    arrive({ id: 'runs', class: 'urgent' })
    arrive({ id: 'b1', tenant: 'many', class: 'batch' }, { id: 'b2', tenant: 'one', class: 'batch' })
    arrive({ id: 'back', tenant: 'many', class: 'batch', tried: new Set(['x']) })
    arrive({ id: 'u1', class: 'urgent' })
    assert.deepEqual(briefly(arrive({ id: 'u2', class: 'urgent' })), ['b1 queue-full'])
    assert.deepEqual(briefly(arrive({ id: 'b3', tenant: 'new', class: 'batch' })), ['b3 queue-full'])
    assert.deepEqual(briefly(arrive({ id: 'u3', class: 'urgent' })), ['b2 queue-full'])
    assert.deepEqual(
      briefly(arrive({ id: 'u4', class: 'urgent' })),
      ['u4 queue-full'],
      'no removable request is left',
    )
    assert.equal(core.queued().length, 4)
  })

  test('beyond the maximum length the last to arrive are refused', () => {
    const { arrive } = aCore([node], { ...open, admission: { ...open.admission, maxQueued: 3 } })
    assert.deepEqual(briefly(arrive(...many(6))), ['r0 on n', 'r5 queue-full', 'r4 queue-full'])
  })

  test('a request that comes back from a failed node is admitted despite the limits', () => {
    const { arrive } = aCore([node], { ...open, admission: { ...open.admission, maxQueued: 0 } })
    arrive({ id: 'first' })
    assert.deepEqual(briefly(arrive({ id: 'back', tried: new Set(['gone']) })), [])
    assert.deepEqual(briefly(arrive({ id: 'new' })), ['new queue-full'])
  })

  test('no request waits longer than the time limit', () => {
    const { core, clock, arrive, after } = aCore([node], {
      ...open,
      admission: { ...open.admission, maxWaitS: 60 },
    })
    arrive({ id: 'first' }, { id: 'waits' })
    assert.deepEqual(briefly(after(59.9)), [])
    assert.ok((core.nextTickAt(clock.now) ?? 0) <= 1060.0001, 'a tick is requested')
    assert.deepEqual(briefly(after(0.1)), ['waits waited-too-long'])
    assert.equal(core.nextTickAt(clock.now), null, 'and none while the queue is empty')
  })

  test('a request whose caller disconnects leaves the queue at once', () => {
    const { core, arrive, end, tell } = aCore([node], open)
    arrive({ id: 'first' }, { id: 'leaves' }, { id: 'stays' })
    tell({ type: 'left', id: 'leaves' })
    assert.equal(core.queued().length, 1)
    assert.deepEqual(briefly(end('first')), ['stays on n'])
  })

  test('a caller that disconnects during its answer gives the slot back', () => {
    const { arrive, tell } = aCore([node], open)
    arrive({ id: 'first' }, { id: 'next' })
    assert.deepEqual(briefly(tell({ type: 'left', id: 'first' })), ['next on n'])
  })

  /** Requests start 7 s apart, and another arrives for each: the queue is never shorter than three. */
  function longLine(starts: number) {
    const classes = { patient: { rank: 0, ttftS: 5, limitS: 1000 } }
    const cluster = aCore([node], { classes, admission: { tenantS: 1e6, maxWaitS: 1e6 } })
    const { arrive, after, end } = cluster
    arrive({ id: 'first' }, ...many(4, { class: 'patient' }))
    let running = 'first'
    for (let nth = 0; nth < starts; nth++) {
      after(7)
      arrive({ id: `later${nth}`, class: 'patient' })
      const [start] = end(running)
      assert.ok(start?.type === 'start')
      running = start.id
    }
    return cluster
  }

  test('after 30 starts in a row while requests of a tenant are late, only its requests that can meet the goal are admitted', () => {
    // The first four arrived before any was late: they are no evidence.
    const { arrive } = longLine(36)
    assert.deepEqual(briefly(arrive({ id: 'late', class: 'patient' })), ['late no-capacity'])
    assert.deepEqual(briefly(arrive({ id: 'other', class: 'patient', tenant: 'other' })), [])
    assert.deepEqual(briefly(arrive({ id: 'back', tried: new Set(['x']) })), [])
  })

  test('a queue that is late for one to three minutes is no standing queue', () => {
    const { arrive } = longLine(25)
    assert.deepEqual(briefly(arrive({ id: 'late', class: 'patient' })), [])
  })

  /** A node with one slot, where each answer takes half a second for 20 tokens. */
  function bursts(changes: Changes = {}) {
    const small = aNode({ models: { a: 1 } })
    const otherClass = { rank: 0, ttftS: 5, limitS: 60 }
    const { clock, arrive, tell } = aCore([small], { otherClass, ...changes })
    const running: { readonly id: string; readonly endsAt: number }[] = []
    const refused: string[] = []
    let ids = 0
    const note = (effects: ReturnType<typeof tell>) => {
      for (const effect of effects)
        if (effect.type === 'start') running.push({ id: effect.id, endsAt: clock.now + 0.5 })
        else if (effect.type === 'refuse') refused.push(`${effect.id} ${effect.reason}`)
    }
    return {
      refused,
      running,
      burst(count: number, request: Partial<SchedulingRequest> = {}) {
        for (let nth = 0; nth < count; nth++)
          note(arrive({ id: `r${ids++}`, promptTokens: 20, maxTokens: null, ...request }))
      },
      /** Advances the time; answers end meanwhile. */
      pass(seconds: number) {
        const until = clock.now + seconds
        for (let next = running.shift(); next; next = running.shift()) {
          if (next.endsAt > until) {
            running.unshift(next)
            break
          }
          clock.now = next.endsAt
          const timings = someTimings({ promptEval: 0.02, eval: 0.48, promptTokens: 20, outputTokens: 20 })
          note(tell({ type: 'ended', id: next.id, timings }))
        }
        clock.now = until
        note(tell({ type: 'tick' }))
      },
    }
  }

  for (const gap of [24.9, 25, 27, 300])
    test(`five bursts of 50 that are served in 25 s each are admitted, one every ${gap} s (384)`, () => {
      const { burst, pass, refused } = bursts()
      for (let nth = 0; nth < 5; nth++) {
        burst(50)
        pass(gap)
      }
      assert.deepEqual(refused, [])
    })

  test('a second burst is admitted while the first is half served (384)', () => {
    const { burst, pass, refused } = bursts()
    burst(50)
    pass(15)
    burst(50)
    assert.deepEqual(refused, [])
  })

  test('a standing queue in one class does not change the limit of another class of the tenant (384)', () => {
    const classes = {
      chat: { rank: 0, ttftS: 5, limitS: 60 },
      batch: { rank: 1, ttftS: 5, limitS: 600 },
    }
    const { burst, pass, refused } = bursts({ classes, admission: { maxWaitS: 1e6 } })
    for (let nth = 0; nth < 60; nth++) {
      burst(3, { class: 'batch' })
      pass(1)
    }
    const before = refused.length
    assert.ok(before > 0, 'the batch has a standing queue')
    burst(50, { class: 'chat' })
    assert.deepEqual(refused.slice(before), [])
  })

  test('the queued work of a tenant for one model does not keep it out of another model (381)', () => {
    const nodes = [node, aNode({ name: 'other', models: { b: 5 }, loaded: ['b'] })]
    const { arrive } = aCore(nodes, { ...open, admission: { ...open.admission, tenantS: 30 } })
    const effects = arrive(...many(50))
    assert.ok(briefly(effects).includes('r49 tenant-full'))
    assert.deepEqual(briefly(arrive({ id: 'x', model: 'b' })), ['x on other'])
    assert.deepEqual(briefly(arrive({ id: 'y', model: 'b' })), [], 'it may wait as well')
  })

  test('when too many wait for one model, the last of them makes room for another model (381)', () => {
    const nodes = [node, aNode({ name: 'other', models: { b: 5 }, loaded: ['b'] })]
    const { arrive } = aCore(nodes, { ...open, admission: { ...open.admission, maxQueued: 10 } })
    arrive(...many(11))
    arrive({ id: 'x', model: 'b' })
    assert.deepEqual(briefly(arrive({ id: 'y', model: 'b' })), ['r10 queue-full'])
  })

  const nowhere: readonly [what: string, request: Partial<SchedulingRequest>][] = [
    ['a model that no node has', { model: 'z' }],
    ['labels that no node has', { labels: { gpu: 'large' } }],
    ['a request that all nodes have failed', { tried: new Set(['n']) }],
  ]
  for (const [what, request] of nowhere)
    test(`there is no node for ${what}`, () => {
      const { arrive } = aCore([node], open)
      assert.deepEqual(briefly(arrive({ id: 'r', ...request })), ['r no-node'])
    })

  test('queued requests are refused when the last node leaves', () => {
    const { arrive, tell } = aCore([node], open)
    arrive({ id: 'first' }, { id: 'waits' })
    assert.deepEqual(briefly(tell({ type: 'fleet', nodes: [{ ...node, available: false }] })), [
      'waits no-node',
    ])
    assert.deepEqual(briefly(tell({ type: 'fleet', nodes: [] })), [])
    assert.deepEqual(briefly(tell({ type: 'ended', id: 'first', timings: null })), [])
  })

  test('a node that left the fleet for a moment keeps its requests, and its victims stay loaded', () => {
    const { arrive, end, tell } = aCore([aNode({ models: { a: 15, b: 15 } })], open)
    arrive({ id: 'first' })
    arrive({ id: 'b1', model: 'b' })
    assert.deepEqual(briefly(tell({ type: 'fleet', nodes: [] })), ['b1 no-node'])
    tell({ type: 'fleet', nodes: [aNode({ models: { a: 15, b: 15 } })] })
    assert.deepEqual(briefly(arrive({ id: 'second' })), [], 'of its one slot')
    assert.deepEqual(briefly(end('first')), ['second on n'])
  })

  test('a known id that arrives again, and an unknown id that ends, change nothing', () => {
    const { core, arrive, tell } = aCore([node], open)
    arrive({ id: 'first' }, { id: 'waits' })
    assert.deepEqual(briefly(arrive({ id: 'first' }, { id: 'waits' })), [])
    assert.equal(core.queued().length, 1)
    const events = ['left', 'first-token', 'busy'] as const
    assert.deepEqual(tell(...events.map((type) => ({ type, id: 'nobody' }) as const)), [])
    assert.deepEqual(tell({ type: 'swapped', node: 'n', model: 'a', ok: true, loadS: 1 }), [])
  })

  test('embedding requests write nothing, so more of them may wait', () => {
    const waiting = (request: Partial<SchedulingRequest>) => {
      const { core, arrive } = aCore([node])
      arrive(...many(40, request))
      return core.queued().length
    }
    // Reading a prompt takes 0.7 s here, writing an answer 1.7 s more.
    const [writing, embedding] = [waiting({ embeds: false }), waiting({ embeds: true })]
    assert.ok(writing > 0 && embedding >= 3 * writing && embedding < 39, `${writing}, ${embedding}`)
  })

  test('the explanation of a newcomer matches its treatment: after requests as urgent, or refused', () => {
    const { core, clock, arrive } = aCore([node], { classes, admission: { tenantS: 60 } })
    arrive(...many(13, { class: 'batch' }))
    const outlook = (request: Partial<SchedulingRequest>) =>
      core.explain(aRequest({ id: 'x', ...request }), clock.now)
    const start = (request: Partial<SchedulingRequest>) => (outlook(request).predictedStart ?? 0) - clock.now
    assert.ok(Math.abs(start({ class: 'urgent' }) - eachS) < 0.001)
    assert.ok(start({ class: 'batch' }) > 12 * eachS)
    assert.equal(outlook({ class: 'batch' }).refused, null)
    arrive(
      ...many(30, { class: 'urgent', tenant: 'other' }).map(({ id, ...request }) => ({
        id: `u${id}`,
        ...request,
      })),
    )
    assert.equal(outlook({ class: 'urgent' }).refused, 'no-capacity')
    assert.equal(outlook({ class: 'urgent', labels: { zone: 'x' } }).refused, 'no-node')
    assert.equal(
      core.explain(aRequest({ id: 'r1', class: 'batch' }), clock.now).refused,
      null,
      'it waits already',
    )
  })

  test('explaining a request changes nothing', () => {
    const { core, clock, arrive } = aCore([node], open)
    arrive({ id: 'first' })
    const { waitsFor, predictedStart } = core.explain(aRequest({ id: 'x' }), clock.now)
    assert.equal(waitsFor, 'slot')
    assert.ok(Math.abs((predictedStart ?? 0) - clock.now - eachS) < 0.001)
    assert.equal(core.queued().length, 0)
    assert.deepEqual(core.explain(aRequest({ model: 'z' }), clock.now), {
      candidates: [],
      waitsFor: null,
      predictedStart: null,
      refused: 'no-node',
    })
  })
})
