import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { contextVariant } from '../../../lib/fleet/models/variant.ts'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { CurrentSnapshot, type Snapshot } from '../../../lib/fleet/snapshot.ts'
import { alwaysAvailable } from '../../../lib/scheduler/fleet/availability.ts'
import type { SwapOrder, Swapped } from '../../../lib/scheduler/fleet/loader.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aLoadedFleet, anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

function arrange(snapshot: Snapshot) {
  const current = new CurrentSnapshot()
  const clock = new VirtualClock()
  const loads: (SwapOrder & { finish(seconds: number): void; fail(error: Error): void })[] = []
  const swap = (order: SwapOrder) => {
    const { promise, resolve, reject } = Promise.withResolvers<Swapped>()
    loads.push({ ...order, finish: (loadS) => resolve({ loadS }), fail: reject })
    return promise
  }
  const reserved: string[] = []
  const upstreams = {
    availabilityOf: (node: string, model: string) => ({
      ...alwaysAvailable,
      reserve: () => void reserved.push(`${node} ${model}`),
    }),
  }
  const scheduler = aScheduler(snapshot, { current, clock, upstreams, loader: { swap } })
  const acquire = (ask: Partial<RequestSpec> = {}) =>
    scheduler.acquire(anAsk({ arrivedAt: clock.now(), ...ask }), new AbortController().signal)
  /** The outcome of a request in a word: where it runs, or why not. */
  const ask = (fields: Partial<RequestSpec> = {}) => {
    const told = { outcome: 'waits' }
    void acquire(fields).then(
      ({ node, reason }) => {
        told.outcome = `${node.name} ${reason}`
      },
      (error) => {
        told.outcome = error.code ?? error.message
      },
    )
    return told
  }
  return { current, clock, loads, reserved, scheduler, acquire, ask }
}

const cold = (config: Record<string, unknown> = {}, names = ['a']) =>
  aLoadedFleet({ nodes: names.map((name) => ({ name, slots: 2, loaded: [] })), config })
const warm = (config: Record<string, unknown> = {}) =>
  aLoadedFleet({ nodes: [{ name: 'a', slots: 1 }], config })

suite('a model that is not in memory', () => {
  test('is loaded once for all requests that wait; a withdrawn one changes nothing for the others, and the load reserves its node', async () => {
    const { ask, loads, reserved, clock } = arrange(cold())
    const asks = [ask(), ask({ api: 'ollama_generate' }), ask()]
    await clock.advance(1000)
    assert.deepEqual(
      loads.map(({ node, victims, model, api }) => [node.name, victims, model, api]),
      [['a', [], 'm:latest', 'ollama_chat']],
    )
    assert.deepEqual(reserved, ['a m:latest'])
    loads[0]?.finish(1)
    await clock.advance(0)
    assert.deepEqual(
      asks.map(({ outcome }) => outcome),
      ['a cold-load', 'a cold-load', 'waits'],
    )
  })

  test('may take longer to load than a request may wait for a slot', async () => {
    const { ask, loads, clock } = arrange(cold({ queue: { max_wait: '2s' } }))
    const asked = ask()
    await clock.advance(30_000)
    assert.equal(asked.outcome, 'waits')
    loads[0]?.finish(30)
    await clock.advance(0)
    assert.equal(asked.outcome, 'a cold-load')
  })

  test('is loaded even if no request may wait for a slot', async () => {
    const { ask, loads, clock } = arrange(cold({ queue: { max_length: 0 } }))
    const asked = ask()
    await clock.advance(0)
    loads[0]?.finish(1)
    await clock.advance(0)
    assert.equal(asked.outcome, 'a cold-load')
  })

  test('fails the requests that waited for its load; a retry is served by another node', async () => {
    const { ask, loads, clock } = arrange(cold({}, ['a', 'b']))
    const asked = ask()
    await clock.advance(0)
    const [first] = loads
    first?.fail(new Error('out of memory'))
    await clock.advance(0)
    assert.equal(asked.outcome, 'out of memory')
    const again = ask({ tried: new Set([first?.node.name ?? '']) })
    await clock.advance(0)
    loads[1]?.finish(1)
    await clock.advance(0)
    assert.equal(again.outcome, `${first?.node.name === 'a' ? 'b' : 'a'} cold-load`)
  })
})

test('a load from before a node left the fleet is not mistaken for one after its return', async () => {
  const { ask, loads, current, scheduler, clock } = arrange(cold())
  const first = ask()
  await clock.advance(0)
  current.swap(aLoadedFleet())
  await clock.advance(0)
  assert.equal(first.outcome, 'all_nodes_down')
  current.swap(cold())
  const second = ask()
  await clock.advance(0)
  assert.equal(loads.length, 2)
  loads[0]?.finish(1)
  await clock.advance(0)
  assert.deepEqual([second.outcome, scheduler.summary().loading], ['waits', ['a']])
  loads[1]?.finish(1)
  await clock.advance(0)
  assert.deepEqual([second.outcome, scheduler.summary().loading], ['a cold-load', undefined])
})

suite('a running request', () => {
  test('reports its tokens at each tick while others wait', async () => {
    const { acquire, ask, clock } = arrange(warm())
    let looks = 0
    const running = await acquire()
    running.begun()
    running.watch(() => ++looks)
    await clock.advance(5000)
    assert.equal(looks, 0)
    ask()
    await clock.advance(5000)
    assert(looks >= 8 && looks <= 12, `${looks} looks in 5 s`)
    running.end(null, 0)
    await clock.advance(5000)
    assert(looks <= 12)
  })

  test('ends once, by the first of its end calls', async () => {
    const { acquire, scheduler, clock } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 3 }] }))
    const [first, second, third] = [await acquire(), await acquire({ id: '2' }), await acquire({ id: '3' })]
    first.end(null, 0)
    first[Symbol.dispose]()
    second[Symbol.dispose]()
    second.end(null, 0)
    await clock.advance(0)
    assert.equal(scheduler.running('a'), 1)
    third[Symbol.dispose]()
    assert.deepEqual(scheduler.summary().running, {})
  })

  test('halves the slots of its node when that answers that it is full', async () => {
    const { acquire, ask, clock } = arrange(aLoadedFleet({ nodes: [{ name: 'a', slots: 2 }] }))
    const refused = await acquire()
    refused.busy()
    const asks = [ask(), ask()]
    await clock.advance(0)
    assert.deepEqual(
      asks.map(({ outcome }) => outcome),
      ['a warm', 'waits'],
    )
  })
})

suite('the queue', () => {
  test('can be listed, and an operator can cancel a request in it', async () => {
    const { acquire, ask, scheduler, clock } = arrange(warm())
    await acquire({ id: 'runs' })
    const waiting = ask({ id: 'waits' })
    await clock.advance(0)
    assert.deepEqual(
      scheduler.queued().map(({ request, plan }) => [request.id, plan?.node, plan?.waitsFor]),
      [['waits', 'a', 'slot']],
    )
    assert.equal(scheduler.decisions()[0]?.id, 'runs')
    assert.equal(scheduler.cancel('runs'), false)
    assert.equal(scheduler.cancel('waits'), true)
    await clock.advance(0)
    assert.deepEqual([waiting.outcome, scheduler.summary().queued], ['cancelled', 0])
  })

  test('refuses a request at once that would wait longer than its class may', async () => {
    const slow = aLoadedFleet({ nodes: [{ name: 'a', slots: 1, bytes: 40e9 }] })
    const { acquire, ask, clock } = arrange(slow)
    await acquire()
    const asks = Array.from({ length: 10 }, () => ask())
    await clock.advance(0)
    assert.equal(asks[0]?.outcome, 'waits')
    assert.match(asks[9]?.outcome ?? '', /^(no_capacity|tenant_queue_full)$/)
  })

  test('empties as soon as the config sets a policy that sends requests on at once', async () => {
    const { acquire, ask, current, clock } = arrange(warm())
    await acquire()
    const waiting = ask()
    await clock.advance(0)
    assert.equal(waiting.outcome, 'waits')
    current.swap(warm({ routing: { policy: 'least-connections' } }))
    await clock.advance(0)
    assert.equal(waiting.outcome, 'a warm')
  })

  test('passes what was learned to the next scheduler', async () => {
    const timings = { total: 5, load: 0, promptEval: 1, eval: 4, promptTokens: 100, outputTokens: 40 }
    const teacher = arrange(warm())
    const grant = await teacher.acquire({ promptTokens: 100 })
    grant.end(timings, 40)
    const pupil = arrange(warm())
    pupil.scheduler.restore(JSON.parse(JSON.stringify(teacher.scheduler.learned())))
    const decode = ({ scheduler }: typeof pupil) => scheduler.explain(anAsk()).candidates[0]?.decode
    assert.equal(decode(pupil), decode(teacher))
    assert.notEqual(decode(pupil), decode(arrange(warm())))
  })
})

test('the slots in force are the configured ones, else the learned ones (362)', () => {
  const snapshot = (slots?: number) =>
    aSnapshot({ nodes: [{ name: 'a', loaded: ['m:latest'], ...(slots !== undefined && { slots }) }] })
  const current = new CurrentSnapshot()
  const scheduler = aScheduler(snapshot(), { current })
  const mean = { mean: 0, count: 0 }
  const runners = { [`m:latest\n${contextVariant(4096)}`]: { decode: mean, prefill: mean, slots: 3 } }
  scheduler.restore({ nodes: { a: { speed: mean, disk: mean, runners } }, outputs: {} })
  const shown = () => [scheduler.slots('a', anAsk()), scheduler.slotsOf('a').get('m:latest')]
  assert.deepEqual(shown(), [3, 3])
  current.swap(snapshot(8))
  assert.deepEqual(shown(), [8, 8])
})
