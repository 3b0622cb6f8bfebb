import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { CurrentSnapshot, type Snapshot } from '../../../lib/fleet/snapshot.ts'
import {
  type AvailabilityBarrier,
  alwaysAvailable,
  type FleetAvailability,
} from '../../../lib/scheduler/fleet/availability.ts'
import type { Grant } from '../../../lib/scheduler/queue/grant.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aLoadedFleet, anAsk } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

/** An availability without limits, except where `barriers` says otherwise. */
const upstreamsWith = (
  barriers: Record<string, AvailabilityBarrier>,
  limit = Number.POSITIVE_INFINITY,
): FleetAvailability => ({
  availabilityOf: (node) => ({ ...alwaysAvailable, barrier: barriers[node] ?? null, limit }),
})

/** One for all schedulers, of which some tests make thousands: they cost more than the schedulers. */
const metrics = new Metrics()

function arrange(snapshot: Snapshot, upstreams: FleetAvailability = upstreamsWith({})) {
  const current = new CurrentSnapshot()
  const clock = new VirtualClock()
  const scheduler = aScheduler(snapshot, { current, upstreams, clock, metrics })
  const acquire = (ask: Partial<RequestSpec> = {}, signal = new AbortController().signal) =>
    scheduler.acquire(anAsk({ arrivedAt: clock.now(), ...ask }), signal)
  return { current, clock, scheduler, acquire }
}

const hasCode = (code: string) => (error: unknown) => error instanceof ProxyError && error.code === code

/** Whether the promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol()
  return (
    (await Promise.race([
      promise.catch(() => null),
      new Promise((resolve) => setImmediate(resolve, pending)),
    ])) !== pending
  )
}

/** Events of one tick: a wait times out, a caller disconnects, the only slot frees up, a new request arrives. */
const momentEvents = ['run out', 'leave', 'free', 'arrive'] as const
type Moment = readonly (typeof momentEvents)[number][]

/** Every order of so many events. */
function momentsOf(length: number): Moment[] {
  if (length === 0) return [[]]
  return momentsOf(length - 1).flatMap((moment) => momentEvents.map((event) => [...moment, event]))
}

const fullFleet = aLoadedFleet({ nodes: [{ name: 'a' }], config: { queue: { max_wait: '100ms' } } })

/** The result of such a tick: the outcome of each request, and what runs in the end. */
async function play(events: Moment) {
  const { acquire, clock, scheduler } = arrange(fullFleet)
  const holder = await acquire()
  const outcomes: string[][] = events.map(() => [])
  const ask = (n: number, signal?: AbortSignal) =>
    void acquire({}, signal).then(
      () => outcomes[n]?.push('granted'),
      (error) => outcomes[n]?.push(error instanceof ProxyError ? error.code : 'gone'),
    )
  for (const [n, event] of events.entries()) {
    const caller = new AbortController()
    if (event === 'leave') clock.after(100, () => caller.abort())
    if (event === 'free') clock.after(100, () => holder[Symbol.dispose]())
    if (event === 'arrive') clock.after(100, () => ask(n))
    if (event === 'leave' || event === 'run out') ask(n, caller.signal)
    await null // a wait is limited once the queue was looked at
  }
  await clock.runUntilIdle()
  return { outcomes, ...scheduler.summary() }
}

/** The expected result, with the events taken strictly one after the other. */
function inOrder(events: Moment): Awaited<ReturnType<typeof play>> {
  const outcomes: string[][] = events.map(() => [])
  const waiting = [...events.keys()].filter((n) => events[n] === 'run out' || events[n] === 'leave')
  const freedAt = events.indexOf('free')
  let isFree = false
  for (const [n, event] of events.entries()) {
    if (event === 'arrive') waiting.push(n)
    isFree ||= n === freedAt
    if (isFree && waiting.length > 0) {
      outcomes[waiting.shift() ?? 0]?.push('granted')
      isFree = false
    }
    const at = waiting.indexOf(n)
    if (at < 0 || event === 'arrive') continue
    waiting.splice(at, 1)
    outcomes[n]?.push(event === 'leave' ? 'gone' : 'queue_timeout')
  }
  for (const n of waiting) outcomes[n]?.push('queue_timeout')
  return { outcomes, running: isFree ? {} : { a: 1 }, queued: 0 }
}

suite('the scheduler', () => {
  test('prefers a node with the model in memory, even a busy one', async () => {
    const { acquire } = arrange(
      aLoadedFleet({
        nodes: [
          { name: 'a', slots: 4, loaded: [] },
          { name: 'b', slots: 4 },
        ],
      }),
    )
    const first = await acquire()
    const second = await acquire()
    assert.deepEqual([first.node.name, second.node.name, second.reason], ['b', 'b', 'warm'])
  })

  test('loads the model on another node once the wait for a slot exceeds the load', async () => {
    const nodes = [
      { name: 'a', bytes: 5e9, loaded: [] },
      { name: 'b', bytes: 5e9 },
    ]
    const { acquire } = arrange(aLoadedFleet({ nodes }))
    await acquire()
    const second = acquire()
    assert.equal(await isSettled(second), false, 'a slot will be free sooner')
    void acquire().catch(() => {})
    assert.equal(
      (await second).node.name,
      'a',
      'the request that waits longest gets what was loaded for the next',
    )
  })

  test('assumes that a node with more weight is faster until it has learned its speed', async () => {
    const { acquire } = arrange(
      aLoadedFleet({
        nodes: [
          { name: 'light', slots: 9, weight: 1 },
          { name: 'heavy', slots: 9, weight: 2 },
        ],
      }),
    )
    const names = []
    for (let n = 0; n < 9; n++) names.push((await acquire()).node.name)
    assert.equal(names[0], 'heavy')
    const heavy = names.filter((name) => name === 'heavy').length
    assert(heavy > 5 && heavy < 9, `${heavy} of 9`)
  })

  test('never exceeds the slots of a node, and serves the queue in order of arrival', async () => {
    const { acquire } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 1 }] }))
    const first = await acquire()
    const waiting = [acquire({ id: '2' }), acquire({ id: '3' })]
    assert.equal(await isSettled(waiting[0]!), false)
    first[Symbol.dispose]()
    const second = await waiting[0]!
    assert.equal(await isSettled(waiting[1]!), false)
    second[Symbol.dispose]()
    await waiting[1]
  })

  test('lets no request overtake between a freed slot and its grant', async () => {
    const { acquire } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 1 }] }))
    const first = await acquire()
    const waiter = acquire()
    first[Symbol.dispose]()
    const newcomer = acquire()
    assert.equal((await waiter).node.name, 'a')
    assert.equal(await isSettled(newcomer), false)
  })

  test('a request sent on from a failed node keeps its place in the queue', async () => {
    const { acquire, clock } = arrange(
      aLoadedFleet({
        nodes: [
          { name: 'a', slots: 1 },
          { name: 'b', slots: 1 },
        ],
      }),
    )
    const onA = await acquire()
    await acquire()
    await clock.advance(1000)
    const later = acquire({ id: 'later' })
    const retried = acquire({ id: 'retried', tried: new Set(['b']), arrivedAt: 10 })
    onA[Symbol.dispose]()
    assert.equal((await retried).node.name, 'a')
    assert.equal(await isSettled(later), false)
  })

  test('a queued request does not hold up a request for another model', async () => {
    const { acquire } = arrange(
      aLoadedFleet({ nodes: [{ name: 'a', slots: 1, models: ['m:latest', 'n:latest'] }] }),
    )
    await acquire()
    void acquire().catch(() => {})
    assert.equal((await acquire({ model: 'n:latest' })).node.name, 'a')
  })

  test('refuses with the reason when every node with the model is cordoned, or refused a connection a moment ago', async () => {
    const { acquire } = arrange(
      aLoadedFleet({
        nodes: [{ name: 'a', health: 'down' }, { name: 'b', state: 'cordoned' }, { name: 'c' }],
      }),
      upstreamsWith({ a: 'refused', c: 'refused' }),
    )
    await assert.rejects(acquire(), hasCode('all_nodes_down'))
  })

  const advised = (...healths: readonly ('up' | 'slow' | 'down')[]) =>
    aLoadedFleet({ nodes: healths.map((health, nth) => ({ name: 'abc'[nth] ?? '', slots: 1, health })) })

  test('uses a node that the leader calls down when no other is left, also if the others failed the request (301)', async () => {
    assert.equal((await arrange(advised('down')).acquire()).node.name, 'a')
    const { acquire } = arrange(advised('up', 'up', 'down'))
    assert.equal((await acquire({ tried: new Set(['a', 'b']) })).node.name, 'c')
  })

  test('avoids a node that the leader calls down while half of the nodes are healthy, and waits for those (301)', async () => {
    const { acquire } = arrange(advised('up', 'down'))
    assert.equal((await acquire()).node.name, 'a')
    assert.equal(await isSettled(acquire()), false)
  })

  test('ignores advice against more than half of the nodes, but prefers the others (301)', async () => {
    const { acquire } = arrange(advised('down', 'up', 'down'))
    const names = [(await acquire()).node.name, (await acquire()).node.name, (await acquire()).node.name]
    assert.equal(names[0], 'b')
    assert.deepEqual(names.sort(), ['a', 'b', 'c'])
  })

  test('prefers nodes that are up to slow ones, and uses both (302)', async () => {
    const { acquire } = arrange(advised('slow', 'up', 'slow'))
    const names = [(await acquire()).node.name, (await acquire()).node.name, (await acquire()).node.name]
    assert.equal(names[0], 'b')
    assert.deepEqual(names.sort(), ['a', 'b', 'c'])
  })

  test('a slow node with the model comes before one that the leader calls down (302)', async () => {
    const { acquire } = arrange(advised('down', 'slow', 'down'))
    assert.equal((await acquire()).node.name, 'b')
  })

  const four = aLoadedFleet({ nodes: ['a', 'b', 'c', 'd'].map((name) => ({ name })) })

  test('while half of the nodes are available, ejected ones get no requests (P7)', async () => {
    const { acquire } = arrange(four, upstreamsWith({ a: 'ejected', b: 'ejected' }))
    const names = [(await acquire()).node.name, (await acquire()).node.name]
    assert.deepEqual(names.sort(), ['c', 'd'])
    assert.equal(await isSettled(acquire()), false)
  })

  test('with fewer than half available it also uses ejected nodes, but never those that refuse connections (P7, 158)', async () => {
    const { acquire } = arrange(four, upstreamsWith({ a: 'ejected', b: 'ejected', c: 'refused' }))
    const names = []
    for (let n = 0; n < 3; n++) names.push((await acquire()).node.name)
    assert.equal(names[0], 'd')
    assert.deepEqual(names.sort(), ['a', 'b', 'd'])
    assert.equal(await isSettled(acquire()), false)
  })

  test('a node that asked for a pause is healthy: it causes no panic, and its requests wait (P7)', async () => {
    const { acquire } = arrange(
      aLoadedFleet({ nodes: [{ name: 'a' }, { name: 'b' }] }),
      upstreamsWith({ a: 'busy', b: 'ejected' }),
    )
    assert.equal(await isSettled(acquire()), false)
  })

  test('counts only nodes that could serve the request: not tried ones, nor those with other labels or without the model (P7)', async () => {
    const nodes = [
      { name: 'ejected', labels: { gpu: 'big' } },
      { name: 'tried', labels: { gpu: 'big' } },
      { name: 'small' },
      { name: 'other', labels: { gpu: 'big' }, models: ['n:latest'] },
    ]
    const { acquire } = arrange(aLoadedFleet({ nodes }), upstreamsWith({ ejected: 'ejected' }))
    const ask = { labels: { gpu: 'big' }, tried: new Set(['tried']) }
    assert.equal((await acquire(ask)).node.name, 'ejected')
  })

  test('waits for a node that asked for a pause or is half-open, rather than refusing', async () => {
    for (const barrier of ['busy', 'trial'] as const) {
      const { acquire, scheduler } = arrange(
        aLoadedFleet({ nodes: [{ name: 'a' }] }),
        upstreamsWith({ a: barrier }),
      )
      assert.equal(await isSettled(acquire()), false)
      assert.equal(scheduler.couldServe(anAsk()), true)
    }
  })

  test('could serve elsewhere if an untried node is free or full, and not if all others are unavailable', async () => {
    const nodes = [{ name: 'a' }, { name: 'b', slots: 1 }]
    const silent = anAsk({ tried: new Set(['a']) })
    const { acquire, scheduler } = arrange(aLoadedFleet({ nodes }))
    assert.equal(scheduler.couldServe(silent), true)
    await acquire({ tried: new Set(['a']) })
    assert.equal(scheduler.couldServe(silent), true)
    assert.equal(
      arrange(aLoadedFleet({ nodes }), upstreamsWith({ b: 'refused' })).scheduler.couldServe(silent),
      false,
    )
    assert.equal(scheduler.couldServe(anAsk({ tried: new Set(['a', 'b']) })), false)
  })

  test('runs no more requests on a node in slow start than that allows', async () => {
    const { acquire } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 4 }] }), upstreamsWith({}, 2))
    await acquire()
    await acquire()
    assert.equal(await isSettled(acquire()), false)
  })

  test('uses only nodes with the requested labels', async () => {
    const { acquire } = arrange(
      aLoadedFleet({ nodes: [{ name: 'a' }, { name: 'b', labels: { gpu: 'big' } }] }),
    )
    assert.equal((await acquire({ labels: { gpu: 'big' } })).node.name, 'b')
  })

  test('refuses at once when the queue is full', async () => {
    const { acquire } = arrange(
      aLoadedFleet({ nodes: [{ name: 'a' }], config: { queue: { max_length: 1 } } }),
    )
    await acquire()
    void acquire().catch(() => {})
    await assert.rejects(acquire(), hasCode('queue_full'))
  })

  test('refuses a request after the configured wait', async () => {
    const { acquire, clock, scheduler } = arrange(
      aLoadedFleet({ nodes: [{ name: 'a' }], config: { queue: { max_wait: '5s' } } }),
    )
    await acquire()
    const late = assert.rejects(acquire(), hasCode('queue_timeout'))
    await clock.advance(5000)
    await late
    assert.equal(scheduler.summary().queued, 0)
  })

  test('a caller that disconnects frees its place in the queue', async () => {
    const { acquire, scheduler } = arrange(aLoadedFleet({ nodes: [{ name: 'a' }] }))
    const first = await acquire()
    const leaver = new AbortController()
    const left = assert.rejects(acquire({}, leaver.signal), /gone/)
    leaver.abort(new Error('gone'))
    await left
    first[Symbol.dispose]()
    assert.deepEqual(scheduler.summary(), { running: {}, queued: 0 })
  })

  test('a node that appears or recovers takes the queued requests', async () => {
    const { acquire, current } = arrange(aLoadedFleet({ nodes: [{ name: 'a' }] }))
    await acquire()
    const waiter = acquire()
    current.swap(aLoadedFleet({ nodes: [{ name: 'a' }, { name: 'b' }] }))
    assert.equal((await waiter).node.name, 'b')
  })

  test('a slot that is given back twice is freed once', async () => {
    const { acquire, scheduler } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 2 }] }))
    const grant = await acquire()
    await acquire()
    grant[Symbol.dispose]()
    grant[Symbol.dispose]()
    assert.equal(scheduler.running('a'), 1)
  })

  test('timeouts, disconnects and a freed slot at one tick have one outcome each, in their order (170)', async () => {
    // All sequences of up to six events, not a sample.
    for (const events of [0, 1, 2, 3, 4, 5, 6].flatMap(momentsOf))
      assert.deepEqual(await play(events), inOrder(events), events.join(', '))
  })

  test('neither loses nor doubles a slot in any order of arrivals, ends, disconnects and model swaps', async () => {
    const step = fc.constantFrom('arrive', 'arrive other', 'finish', 'abort', 'swap')
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.nat(), async (steps, seed) => {
        const fleet = aLoadedFleet({
          nodes: [
            { name: 'a', slots: 2, models: ['m:latest', 'n:latest'], loaded: ['m:latest'], max_loaded: 1 },
            { name: 'b' },
          ],
        })
        const { acquire, scheduler, current } = arrange(fleet)
        const running: Grant[] = []
        const aborts: AbortController[] = []
        let refused = 0
        let finished = 0
        for (const [index, action] of steps.entries()) {
          if (action.startsWith('arrive')) {
            const abort = new AbortController()
            aborts.push(abort)
            acquire({ model: action === 'arrive' ? 'm:latest' : 'n:latest' }, abort.signal).then(
              (grant) => running.push(grant),
              () => refused++,
            )
          } else if (action === 'finish' && running.length > 0) {
            running.splice((seed + index) % running.length, 1)[0]?.[Symbol.dispose]()
            finished++
          } else if (action === 'abort')
            aborts[(seed + index) % (aborts.length || 1)]?.abort(new Error('gone'))
          else current.swap(fleet)
          await new Promise((resolve) => setImmediate(resolve))
          const { running: counted, queued } = scheduler.summary()
          const total = Object.values(counted).reduce((sum, each) => sum + each, 0)
          assert.equal(total, running.length)
          assert.equal(total + queued + refused + finished, aborts.length)
          assert(running.filter(({ node }) => node.name === 'b').length <= 1)
        }
        while (running.length > 0) {
          running.pop()?.[Symbol.dispose]()
          await new Promise((resolve) => setImmediate(resolve))
        }
        assert.deepEqual(scheduler.summary(), { running: {}, queued: 0 })
      }),
      { numRuns: 200 },
    )
  })
})
