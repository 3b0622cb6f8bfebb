import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

const patient = { queue: { max_wait: '1h' } }

/** One node whose only slot is taken. */
async function arrange(config: Record<string, unknown> = patient) {
  const current = new CurrentSnapshot()
  const fleet = (shown: Record<string, unknown>) =>
    aSnapshot({ nodes: [{ name: 'a', slots: 1, loaded: ['m:latest'] }], config: shown })
  const clock = new VirtualClock()
  const scheduler = aScheduler(fleet(config), { current, clock })
  const acquire = (ask: Partial<RequestSpec> = {}) =>
    scheduler.acquire(anAsk({ arrivedAt: clock.now(), ...ask }), new AbortController().signal)
  const held = await acquire()
  const served: string[] = []
  return {
    clock,
    scheduler,
    show: (shown: Record<string, unknown>) => current.swap(fleet(shown)),
    /** Waits for the slot, and works for `workMs`. */
    ask: (id: string, name: string, workMs = 0) =>
      void acquire({ id, class: name }).then(
        (grant) => {
          served.push(id)
          if (workMs === 0) grant[Symbol.dispose]()
          else clock.after(workMs, () => grant[Symbol.dispose]())
        },
        (error) => served.push(`${id}: ${error instanceof ProxyError ? error.code : error}`),
      ),
    /** Frees the slot repeatedly; returns the order in which requests got it. */
    async order() {
      held[Symbol.dispose]()
      await clock.runUntilIdle()
      return served.join(' ')
    },
    served,
  }
}

suite('the classes of waiting requests', () => {
  test('the more urgent class goes first, and within a class the first to arrive', async () => {
    const { ask, clock, order, scheduler } = await arrange()
    for (const [id, name] of [
      ['b1', 'batch'],
      ['d1', 'default'],
      ['b2', 'batch'],
      ['i1', 'interactive'],
      ['d2', 'default'],
      ['i2', 'interactive'],
    ] as const) {
      ask(id, name)
      await clock.advance(1000)
    }
    assert.deepEqual(Object.fromEntries(scheduler.queuedByClass()), {
      batch: { count: 2, oldestMs: 6000 },
      default: { count: 2, oldestMs: 5000 },
      interactive: { count: 2, oldestMs: 3000 },
    })
    assert.equal(await order(), 'i1 i2 d1 d2 b1 b2')
    assert.equal(scheduler.queuedByClass().size, 0)
  })

  test('each 30 s of waiting lift a request by one class, up to the first', async () => {
    const until = async (ageMs: number, name: string, other: string) => {
      const { ask, clock, order } = await arrange()
      ask('old', name)
      await clock.advance(1)
      ask('rival', other)
      await clock.advance(ageMs - 1)
      ask('new', other)
      return await order()
    }
    assert.equal(await until(29_999, 'batch', 'default'), 'rival new old')
    assert.equal(await until(30_000, 'batch', 'default'), 'old rival new')
    assert.equal(await until(59_999, 'batch', 'interactive'), 'rival new old')
    assert.equal(await until(60_000, 'batch', 'interactive'), 'old rival new')
    assert.equal(await until(600_000, 'interactive', 'interactive'), 'old rival new')
  })

  test('a stream of urgent requests starves no class: the least urgent request is served soon after a minute', async () => {
    const { ask, clock, served, order } = await arrange()
    ask('interactive', 'interactive', 2000)
    ask('batch', 'batch')
    void order()
    // Twice as many as the node can serve.
    for (let second = 0; second < 70; second++) {
      ask('interactive', 'interactive', 2000)
      await clock.advance(1000)
    }
    assert.equal(served.indexOf('batch'), 30)
  })

  test('the wait limit is that of the class, or else queue.max_wait', async () => {
    const { ask, clock, served } = await arrange({
      queue: { max_wait: '5s' },
      classes: [
        { name: 'interactive', max_wait: '1s' },
        { name: 'default' },
        { name: 'batch', max_wait: '9s' },
      ],
    })
    for (const name of ['batch', 'default', 'interactive']) ask(name, name)
    await clock.advance(999)
    assert.deepEqual(served, [])
    await clock.advance(1)
    assert.deepEqual(served, ['interactive: queue_timeout'])
    await clock.advance(4000)
    assert.deepEqual(served.slice(1), ['default: queue_timeout'])
    await clock.advance(4000)
    assert.deepEqual(served.slice(2), ['batch: queue_timeout'])
  })

  test('by default batch requests may wait for ten minutes and others for one', async () => {
    const { ask, clock, served } = await arrange({})
    for (const name of ['batch', 'default', 'interactive']) ask(name, name)
    await clock.advance(60_000)
    assert.deepEqual(served.toSorted(), ['default: queue_timeout', 'interactive: queue_timeout'])
    await clock.advance(539_999)
    assert.equal(served.length, 2)
    await clock.advance(1)
    assert.equal(served[2], 'batch: queue_timeout')
  })

  test('tenants are served by queue.shares from the moment of the config change', async () => {
    const { clock, scheduler, show, order, served } = await arrange()
    const turns = () => served.splice(0).map((id) => id[0])
    const queue = (round: number) => {
      for (const tenant of ['a', 'b', 'constructor'])
        for (let nth = 0; nth < 8; nth++)
          void scheduler
            .acquire(
              anAsk({ id: `${tenant}${round}${nth}`, tenant, promptTokens: 1000, arrivedAt: clock.now() }),
              new AbortController().signal,
            )
            .then((grant) => {
              served.push(tenant)
              grant.end(null, 500)
            })
    }
    queue(1)
    await order()
    assert.equal(
      turns()
        .slice(0, 12)
        .filter((tenant) => tenant === 'a').length,
      4,
    )
    show({ queue: { ...patient.queue, shares: { a: 4 } } })
    const held = await scheduler.acquire(anAsk({ id: 'held' }), new AbortController().signal)
    queue(2)
    held[Symbol.dispose]()
    await clock.runUntilIdle()
    assert.ok(
      turns()
        .slice(0, 12)
        .filter((tenant) => tenant === 'a').length >= 7,
    )
  })

  test('a request whose class is removed from the config while it waits continues in the default class', async () => {
    const { ask, show, order } = await arrange()
    ask('urgent', 'interactive')
    ask('default', 'default')
    ask('batch', 'batch')
    show({ ...patient, classes: [{ name: 'batch' }, { name: 'default' }] })
    assert.equal(await order(), 'batch urgent default')
  })
})
