import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Core } from '../../../lib/scheduler/core.ts'
import type { SchedulingRequest } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, briefly, type Changes, someParameters, without } from '../../support/core.ts'

const classes = {
  high: { rank: 0, ttftS: 5, limitS: 1000 },
  low: { rank: 1, ttftS: 5, limitS: 1000 },
  patient: { rank: 0, ttftS: 60, limitS: 1000 },
}
const normal = { rank: 0, ttftS: 5, limitS: 1000 }
const patience: Changes = {
  classes,
  otherClass: normal,
  admission: { tenantS: 1e6, maxWaitS: 1e6, leastLimitS: 1e6, evidence: 1e9 },
}

/** One slot, taken by "first"; the others arrive `apart` seconds after each other, and are served one by one. */
function served(
  requests: readonly Partial<SchedulingRequest>[],
  { apart = 0, changes = {} as Changes } = {},
): string[] {
  const { arrive, after, end, clock } = aCore([aNode()], { ...patience, ...changes })
  arrive({ id: 'first' })
  for (const request of requests) {
    clock.now += apart
    arrive(request)
  }
  const order: string[] = []
  let running = 'first'
  for (let turn = 0; turn < requests.length; turn++) {
    after(0.1)
    const [start] = end(running)
    assert.ok(start?.type === 'start', 'a free slot is given away')
    running = start.id
    order.push(running)
  }
  return order
}

suite('the order of the queue', () => {
  test('equal requests are served in order of arrival', () => {
    assert.deepEqual(served([{ id: 'x' }, { id: 'y' }, { id: 'z' }], { apart: 0.1 }), ['x', 'y', 'z'])
  })

  test('inside a tenant the earliest latest start goes first', () => {
    const requests = [
      { id: 'can wait', class: 'patient' },
      { id: 'short', promptTokens: 10 },
      { id: 'long', promptTokens: 3000 },
    ]
    assert.deepEqual(served(requests), ['long', 'short', 'can wait'])
  })

  test('new goals of a config change apply to queued requests', () => {
    let ttftS = 60
    const parameters = {
      ...someParameters(patience),
      get classes() {
        return { changed: { ...normal, ttftS } }
      },
    }
    const core = new Core({ policy: 'earliest-finish', parameters, random: () => 0.5 })
    core.take({ type: 'fleet', nodes: [aNode()] }, 1000)
    const arrive = (id: string, arrivedAt: number) =>
      core.take({ type: 'arrived', request: aRequest({ id, class: 'changed', arrivedAt }) }, arrivedAt)
    arrive('first', 1000)
    core.pass(1000)
    arrive('old', 1000)
    ttftS = 5
    core.reclassify(1001)
    arrive('new', 1001)
    core.take({ type: 'ended', id: 'first', timings: null }, 1002)
    assert.deepEqual(briefly(core.pass(1002)), ['old on n'])
  })

  test('without ordering by goals it is first come, first served', () => {
    const requests = [
      { id: 'short', promptTokens: 10 },
      { id: 'long', promptTokens: 3000 },
    ]
    assert.deepEqual(served(requests, { apart: 0.1, changes: without('order') }), ['short', 'long'])
  })

  test('a higher class goes first, even if it arrived later', () => {
    const requests = [
      { id: 'x', class: 'low' },
      { id: 'y', class: 'high' },
    ]
    assert.deepEqual(served(requests, { apart: 1 }), ['y', 'x'])
  })

  test('a request rises one class after 30 s of waiting, and then competes as an equal', () => {
    const { arrive, after, end } = aCore([aNode()], patience)
    arrive({ id: 'first' })
    arrive({ id: 'old', class: 'low', arrivedAt: 1000 })
    after(30)
    arrive({ id: 'new', class: 'high', arrivedAt: 1030 })
    // All but "new" are late by then; "new" arrives 25 s after the goal of "old" has passed.
    after(0.1)
    assert.deepEqual(briefly(end('first')), ['new on n'])
    arrive({ id: 'newer', class: 'high', arrivedAt: 1030.1 })
    after(6)
    assert.deepEqual(briefly(end('new')), ['old on n'], 'late requests do not overtake each other')
  })

  test('a request that misses its goal steps back once, but not behind requests that arrive 30 s later', () => {
    const { arrive, after, end } = aCore([aNode()], patience)
    arrive({ id: 'first' })
    arrive({ id: 'late', arrivedAt: 1000 })
    after(4.6)
    arrive({ id: 'in time', arrivedAt: 1004.6 })
    assert.deepEqual(briefly(end('first')), ['in time on n'])
    after(30)
    arrive({ id: 'too new', arrivedAt: 1034.6 })
    assert.deepEqual(briefly(end('in time')), ['late on n'])
  })

  test('a request that comes back from a failed node keeps its place', () => {
    const { arrive, after, tell } = aCore(
      [aNode({ slots: 1 }), aNode({ name: 'bad', available: false })],
      patience,
    )
    arrive({ id: 'first', arrivedAt: 1000 })
    after(1)
    arrive({ id: 'other', arrivedAt: 1001 })
    const again = {
      type: 'arrived',
      request: aRequest({ id: 'back', arrivedAt: 1000.5, tried: new Set(['bad']) }),
    } as const
    tell(again)
    assert.deepEqual(briefly(tell({ type: 'ended', id: 'first', timings: null })), ['back on n'])
  })

  test('tenants take turns by tokens served, even if one of them sends more requests', () => {
    const flood = ['a1', 'a2', 'a3', 'a4'].map((id) => ({ id, tenant: 'a' }))
    const requests = [...flood, { id: 'b1', tenant: 'b' }, { id: 'b2', tenant: 'b' }]
    const order = served(requests, { apart: 0.01 })
    assert.deepEqual(
      order.slice(0, 4).filter((id) => id.startsWith('b')),
      ['b1', 'b2'],
    )
  })

  test('a tenant with twice the weight gets twice the tokens', () => {
    const requests = [1, 2, 3, 4, 5, 6].flatMap((nth) => [
      { id: `a${nth}`, tenant: 'a' },
      { id: `b${nth}`, tenant: 'b' },
    ])
    const order = served(requests, { apart: 0.001, changes: { tenantWeights: { a: 2 } } })
    assert.equal(order.slice(0, 9).filter((id) => id.startsWith('a')).length, 6)
  })

  test('a tenant pays for its output tokens also if the node reports no timings', () => {
    const { arrive, tell } = aCore([aNode()], patience)
    arrive({ id: 'a0', tenant: 'a' }, { id: 'b0', tenant: 'b' })
    tell({ type: 'ended', id: 'a0', timings: null, written: 5000 })
    arrive({ id: 'a1', tenant: 'a', arrivedAt: 900 }, { id: 'b1', tenant: 'b' })
    assert.deepEqual(briefly(tell({ type: 'ended', id: 'b0', timings: null, written: 10 })), ['b1 on n'])
  })

  test('a tenant that was idle starts level with those that wait, and has saved nothing', () => {
    const { arrive, after, end } = aCore([aNode()], patience)
    arrive({ id: 'first', tenant: 'busy' })
    let running = 'first'
    for (let nth = 0; nth < 5; nth++) {
      arrive({ id: `busy${nth}`, tenant: 'busy' })
      after(0.1)
      const [start] = end(running)
      running = start?.type === 'start' ? start.id : ''
    }
    arrive({ id: 'busy5', tenant: 'busy' }, { id: 'busy6', tenant: 'busy' })
    arrive(...[0, 1, 2].map((nth) => ({ id: `idle${nth}`, tenant: 'idle' })))
    const order: string[] = []
    for (let nth = 0; nth < 3; nth++) {
      after(0.1)
      const [start] = end(running)
      running = start?.type === 'start' ? start.id : ''
      order.push(running)
    }
    assert.ok(
      order.some((id) => id.startsWith('busy')),
      `${order} must not all belong to the tenant that was idle`,
    )
  })

  test('without fairness a tenant that sends more gets more', () => {
    const requests = ['a1', 'a2', 'a3', 'b1'].map((id) => ({ id, tenant: id.slice(0, 1) }))
    assert.deepEqual(served(requests, { apart: 0.01, changes: without('fairness') }), [
      'a1',
      'a2',
      'a3',
      'b1',
    ])
  })

  test('the queue lists its requests in the order of service, with what they wait for', () => {
    const { core, arrive } = aCore([aNode()], patience)
    arrive({ id: 'first' })
    arrive({ id: 'x' }, { id: 'y', class: 'low' }, { id: 'z' })
    assert.deepEqual(
      core.queued().map(({ request, plan }) => [request.id, plan?.node, plan?.waitsFor]),
      [
        ['x', 'n', 'slot'],
        ['z', 'n', 'slot'],
        ['y', 'n', 'slot'],
      ],
    )
  })
})
