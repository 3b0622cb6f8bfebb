import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { CurrentSnapshot, type Snapshot } from '../../../lib/fleet/snapshot.ts'
import { UpstreamPool } from '../../../lib/gateway/availability/upstream-pool.ts'
import type { Grant } from '../../../lib/scheduler/queue/grant.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { Via } from '../../../lib/shared/net/via.ts'
import type { Random } from '../../../lib/shared/random.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aLoadedFleet, anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

/** The real scheduler and upstreams; the test decides how nodes respond. */
function arrange(snapshot: Snapshot, random: Random = () => 0.5) {
  const current = new CurrentSnapshot()
  current.swap(snapshot)
  const clock = new VirtualClock()
  const metrics = new Metrics()
  const changed = () => scheduler.refresh()
  const warnings: string[] = []
  const infos: string[] = []
  const log = {
    info: (message: string, fields: object = {}) => void infos.push(`${message} ${JSON.stringify(fields)}`),
    warn: (message: string) => void warnings.push(message),
  }
  const upstreams = new UpstreamPool({
    snapshot: current,
    via: new Via('x'),
    metrics,
    log,
    clock,
    random,
    changed,
  })
  const scheduler = aScheduler(snapshot, { current, upstreams, clock })
  const acquire = (model = 'm:latest', tried: readonly string[] = []) =>
    scheduler.acquire(
      anAsk({ model, arrivedAt: clock.now(), tried: new Set(tried) }),
      new AbortController().signal,
    )
  const upstream = (name: string) => {
    const node = current.get().nodes.get(name)
    assert(node)
    return upstreams.of(node)
  }
  const settle = async (name: string, ...signs: readonly ('good' | 'bad' | 'refused')[]) => {
    for (const sign of signs) upstream(name).breaker.begin().settle(sign)
    await clock.advance(0)
  }
  const panics = async () =>
    (await metrics.panicPicks.get()).values.reduce((sum, { value }) => sum + value, 0)
  const gauge = async (node: string) =>
    (await metrics.breakerState.get()).values.flatMap(({ labels, value }) =>
      labels.node === node && value === 1 ? [labels.state] : [],
    )
  return { current, clock, upstreams, scheduler, acquire, upstream, settle, panics, gauge, infos, warnings }
}

/** Takes slots until the next request must wait; that one counts as queued. */
async function fill({ acquire, scheduler, clock }: ReturnType<typeof arrange>, model?: string) {
  const granted: Grant[] = []
  while (scheduler.summary().queued === 0) {
    void acquire(model).then(
      (grant) => granted.push(grant),
      () => {},
    )
    await clock.advance(0)
  }
  return granted
}

const fiveBad = ['bad', 'bad', 'bad', 'bad', 'bad'] as const
const one = (slots: number) => aLoadedFleet({ nodes: [{ name: 'a', slots }] })

suite('a node that returns', () => {
  test('has one slot per model and one more each 5 s, and each step serves waiting requests (P8)', async () => {
    const fleet = arrange(one(4))
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    await fleet.settle('a', 'good')
    const granted = await fill(fleet)
    assert.equal(granted.length, 1)
    for (let n = 0; n < 9; n++) void fleet.acquire().catch(() => {})
    const seen: number[] = []
    for (let step = 0; step < 5; step++) {
      seen.push(fleet.scheduler.running('a'))
      await fleet.clock.advance(5000)
    }
    assert.deepEqual(seen, [1, 2, 3, 4, 4])
  })

  test('is warm within 30 s with any number of slots (P8)', async () => {
    const fleet = arrange(one(100))
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    await fleet.settle('a', 'good')
    for (let n = 0; n < 100; n++) void fleet.acquire().catch(() => {})
    const seen: number[] = []
    for (let step = 0; step < 7; step++) {
      await fleet.clock.advance(step && 5000)
      seen.push(fleet.scheduler.running('a'))
    }
    assert.deepEqual(seen, [1, 18, 35, 52, 69, 86, 100])
  })

  test('is warmed up per model: another model has its own first slot (P8)', async () => {
    const fleet = arrange(
      aLoadedFleet({ nodes: [{ name: 'a', slots: 4, models: ['m:latest', 'n:latest'] }] }),
    )
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    await fleet.settle('a', 'good')
    await fleet.acquire('m:latest')
    assert.equal((await fleet.acquire('n:latest')).node.name, 'a')
  })

  test('that was down is warmed up; one never seen down has every slot (P8)', async () => {
    const nodes = (health: 'up' | 'down') => aLoadedFleet({ nodes: [{ name: 'a', slots: 4, health }] })
    const fleet = arrange(nodes('up'))
    fleet.current.swap(nodes('up'))
    const before = await fill(fleet)
    assert.equal(before.length, 4)
    for (const grant of before) grant[Symbol.dispose]()

    const returning = arrange(nodes('up'))
    returning.current.swap(nodes('down'))
    returning.current.swap(nodes('up'))
    assert.equal((await fill(returning)).length, 1)
    await returning.clock.advance(15_000)
    returning.current.swap(nodes('up'))
    assert.equal(returning.upstreams.availabilityOf('a', 'm:latest').limit, Number.POSITIVE_INFINITY)
  })

  test('is logged once when its breaker opens and once when it closes, not at each trial between', async () => {
    const fleet = arrange(one(4))
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    await fleet.settle('a', 'bad')
    await fleet.clock.advance(15_000)
    await fleet.settle('a', 'good')
    assert.deepEqual(fleet.infos, [
      'circuit breaker open: this instance keeps requests from the node {"node":"a","cause":"refused"}',
      'circuit breaker closed {"node":"a"}',
    ])
  })

  test('has every slot at once when slow start is off', async () => {
    const fleet = arrange(
      aLoadedFleet({ nodes: [{ name: 'a', slots: 4 }], config: { breaker: { slow_start: '0s' } } }),
    )
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    await fleet.settle('a', 'good')
    assert.equal((await fill(fleet)).length, 4)
  })
})

suite('panic', () => {
  const three = aLoadedFleet({ nodes: ['a', 'b', 'c'].map((name) => ({ name, slots: 4 })) })

  test('when all nodes fail they are still tried, and a metric counts it (P7)', async () => {
    const fleet = arrange(three)
    for (const name of ['a', 'b', 'c']) await fleet.settle(name, ...fiveBad)
    assert.equal(fleet.upstreams.breakerState('a'), 'open')
    await fleet.acquire()
    await fleet.acquire()
    assert.equal(await fleet.panics(), 2)
  })

  test('one ejected node of three gets no request, and no panic is counted (P7)', async () => {
    const fleet = arrange(three)
    await fleet.settle('a', ...fiveBad)
    const names = (await fill(fleet)).map(({ node }) => node.name)
    assert.deepEqual([names.includes('a'), names.length, await fleet.panics()], [false, 8, 0])
  })

  test('nodes that refuse connections get no request (158)', async () => {
    const fleet = arrange(three)
    for (const name of ['a', 'b', 'c']) await fleet.settle(name, 'refused')
    await assert.rejects(fleet.acquire(), { code: 'all_nodes_down' })
  })

  test('a half-open node gets one request until its result is known, however many wait (173)', async () => {
    const fleet = arrange(one(4))
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    const granted = await fill(fleet)
    assert.equal(granted.length, 1)
    await fleet.settle('a', 'good')
    await fleet.clock.advance(5000)
    assert.equal(fleet.scheduler.summary().queued, 0)
  })
})

suite('a node that says it is busy', () => {
  test('gets no request of any model for the first pause; requests wait, and its breaker stays closed (176)', async () => {
    const fleet = arrange(
      aLoadedFleet({ nodes: [{ name: 'a', slots: 4, models: ['m:latest', 'n:latest'] }] }),
    )
    fleet.upstream('a').busy()
    for (const model of ['m:latest', 'n:latest']) void fleet.acquire(model).catch(() => {})
    await fleet.clock.advance(4999)
    assert.deepEqual(fleet.scheduler.summary(), { running: {}, queued: 2 })
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    await fleet.clock.advance(1)
    assert.deepEqual(fleet.scheduler.summary(), { running: { a: 1 }, queued: 1 })
  })

  test('pauses as long as it asks for, but for 60 s at most', async () => {
    for (const [askedMs, grantedMs] of [
      [1, 5000],
      [12_000, 12_000],
      [3_600_000, 60_000],
    ] as const) {
      const fleet = arrange(one(1))
      fleet.upstream('a').busy(askedMs)
      await fleet.clock.advance(grantedMs - 1)
      assert.equal(fleet.upstreams.availabilityOf('a', 'm:latest').barrier, 'busy')
      await fleet.clock.advance(1)
      assert.equal(fleet.upstreams.availabilityOf('a', 'm:latest').barrier, null)
    }
  })

  test('pauses longer each time, once for requests refused together; a good response resets it', async () => {
    const fleet = arrange(one(4))
    const { clock, upstreams } = fleet
    const pauseMs = async () => {
      const since = clock.now()
      while (upstreams.availabilityOf('a', 'm:latest').barrier === 'busy') await clock.advance(100)
      return clock.now() - since
    }
    const pauses: number[] = []
    for (let n = 0; n < 4; n++) {
      for (let together = 0; together < 3; together++) fleet.upstream('a').busy()
      pauses.push(await pauseMs())
    }
    await fleet.settle('a', 'good')
    fleet.upstream('a').busy()
    pauses.push(await pauseMs())
    assert.deepEqual(pauses, [5000, 10_000, 20_000, 20_000, 5000])
  })

  test('after a good answer is warmed up, one slot at first (P8)', async () => {
    const fleet = arrange(one(3))
    fleet.upstream('a').busy()
    await fleet.settle('a', 'good') // of a request sent before: says nothing
    assert.equal(fleet.upstreams.availabilityOf('a', 'm:latest').barrier, 'busy')
    await fleet.clock.advance(5000)
    const [probe] = await fill(fleet)
    assert(probe)
    await fleet.settle('a', 'good')
    probe[Symbol.dispose]()
    for (let n = 0; n < 5; n++) void fleet.acquire().catch(() => {})
    await fleet.clock.advance(0)
    assert.equal(fleet.scheduler.running('a'), 1)
    await fleet.clock.advance(10_000)
    assert.equal(fleet.scheduler.running('a'), 3)
  })

  test('to a half-open request has proved that it works: the breaker closes', async () => {
    const fleet = arrange(one(1))
    await fleet.settle('a', 'refused')
    await fleet.clock.advance(5000)
    const trial = fleet.upstream('a').breaker.begin()
    fleet.upstream('a').busy()
    trial.settle('neutral')
    assert.deepEqual(
      [fleet.upstreams.breakerState('a'), fleet.upstreams.availabilityOf('a', 'm:latest').barrier],
      ['closed', 'busy'],
    )
  })

  test('and leaves the fleet leaves no timers (157)', async () => {
    const fleet = arrange(one(4))
    const left = fleet.upstream('a')
    left.busy()
    fleet.current.swap(aSnapshot())
    left.busy()
    left.breaker.begin().settle('refused')
    assert.equal(fleet.clock.nextTimerAt(), null)
  })

  for (const die of [0, 0.5, 0.999]) {
    test(`for 60 s is relieved by others, asked once per pause, and used again within 30 s (176, random ${die})`, async () => {
      const models = ['m:latest', 'n:latest', 'o:latest']
      const nodes = ['busy', 'other'].map((name) => ({ name, slots: 4, models }))
      const fleet = arrange(aLoadedFleet({ nodes }), () => die)
      const { clock } = fleet
      const recoversAt = 60_000
      const asked: number[] = []
      const served = { busy: 0, other: 0 }
      let usedAgainAt = Number.POSITIVE_INFINITY
      let failed = 0

      const serve = async (model: string): Promise<void> => {
        const tried: string[] = []
        while (true) {
          using grant = await fleet.acquire(model, tried)
          const { name } = grant.node
          const trial = fleet.upstream(name).breaker.begin()
          if (name === 'other' || clock.now() >= recoversAt) {
            served[name as 'busy' | 'other']++
            if (name === 'busy') usedAgainAt = Math.min(usedAgainAt, clock.now())
            await clock.sleep(300)
            return trial.settle('good')
          }
          asked.push(clock.now())
          fleet.upstream(name).busy()
          trial.settle('neutral')
          tried.push(name)
        }
      }
      const running: Promise<void>[] = []
      while (clock.now() < 100_000) {
        const model = models[running.length % models.length] ?? ''
        running.push(serve(model).catch(() => void failed++))
        await clock.advance(100)
      }
      await clock.advance(5000)
      await Promise.all(running)

      assert.equal(failed, 0)
      assert.equal(served.busy + served.other, running.length)
      for (const [nth, at] of asked.entries())
        assert(nth === 0 || at - (asked[nth - 1] ?? 0) >= 0.8 * 5000, `asked again after too short a time`)
      assert(asked.length >= 3 && asked.length <= 7, `asked ${asked.length} times`)
      assert(
        usedAgainAt - recoversAt <= 30_000,
        `used again ${usedAgainAt - recoversAt} ms after it recovered`,
      )
      assert(served.busy > 10, 'it takes its share again')
    })
  }
})

suite('a model that fails on a node by itself', () => {
  const both = () =>
    aLoadedFleet({ nodes: [{ name: 'a', weight: 2, models: ['m:latest', 'o:latest'] }, { name: 'b' }] })

  test('is blocked there for 30 s, while other models go on (151)', async () => {
    const fleet = arrange(both())
    fleet.upstream('a').blockModel('m:latest')
    assert.equal((await fleet.acquire()).node.name, 'b')
    assert.equal((await fleet.acquire('o:latest')).node.name, 'a')
    await fleet.clock.advance(30_000)
    assert.equal((await fleet.acquire()).node.name, 'a')
  })

  test('is asked for there when no other node has it', async () => {
    const fleet = arrange(one(1))
    fleet.upstream('a').blockModel('m:latest')
    assert.equal((await fleet.acquire()).node.name, 'a')
    assert.equal(await fleet.panics(), 1)
  })
})

test('the gauge of a breaker says closed once its node was edited, which has a new breaker (309)', async () => {
  const fleet = arrange(one(4))
  await fleet.settle('a', 'refused')
  assert.deepEqual(await fleet.gauge('a'), ['open'])
  fleet.current.swap(aLoadedFleet({ nodes: [{ name: 'a', url: 'http://10.0.0.9:11434' }] }))
  assert.equal(fleet.upstreams.breakerState('a'), 'closed')
  assert.deepEqual(await fleet.gauge('a'), ['closed'])
  await fleet.settle('a', 'refused')
  assert.deepEqual(await fleet.gauge('a'), ['open'])
})

suite('a node whose answers do not begin', () => {
  const pair = () =>
    aLoadedFleet({
      nodes: ['a', 'b'].map((name) => ({ name, slots: 4, models: ['m:latest', 'n:latest'] })),
    })
  const hear = (fleet: ReturnType<typeof arrange>, node: string, model: string) => {
    fleet.upstream(node).silence(model).heardAt = fleet.clock.now()
  }
  /** So many requests to a for m, sent now, are overdue ten seconds later. */
  const swallow = async (
    fleet: ReturnType<typeof arrange>,
    count: number,
    ...answering: [node: string, model: string][]
  ) => {
    assert(fleet.upstream('a'), 'requests are sent there')
    const sentAt = fleet.clock.now() + 1
    await fleet.clock.advance(10_000)
    for (const each of answering) hear(fleet, ...each)
    await fleet.clock.advance(1)
    for (let n = 0; n < count; n++) fleet.upstreams.overdue('a', 'm:latest', sentAt)
  }

  test('is ejected after the third silent request while another node responds (305)', async () => {
    const fleet = arrange(pair())
    await swallow(fleet, 2, ['b', 'n:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    await swallow(fleet, 1, ['b', 'n:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'open')
    assert.deepEqual(fleet.warnings, ['node takes chats and answers none: restart Ollama there'])
  })

  test('is kept while it loads the model again (305)', async () => {
    const nodes = ['a', 'b'].map((name) => ({ name, slots: 4, models: ['m:latest'], loaded: [] }))
    const fleet = arrange(aSnapshot({ nodes }))
    await swallow(fleet, 3, ['b', 'n:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    assert.deepEqual(fleet.warnings, [])
  })

  test('keeps its other models when they respond (305)', async () => {
    const fleet = arrange(pair())
    await swallow(fleet, 3, ['a', 'n:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    assert.equal(fleet.upstreams.availabilityOf('a', 'm:latest').barrier, 'ejected')
    assert.equal(fleet.upstreams.availabilityOf('a', 'n:latest').barrier, null)
  })

  test('is kept while no other node responds either: the requests may be the cause (305)', async () => {
    const fleet = arrange(pair())
    hear(fleet, 'b', 'm:latest')
    await swallow(fleet, 10)
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    assert.deepEqual(fleet.warnings, [])
  })

  test('is kept when a later response made progress, and the count starts again (305)', async () => {
    const fleet = arrange(pair())
    await swallow(fleet, 2, ['b', 'm:latest'])
    hear(fleet, 'a', 'm:latest')
    await swallow(fleet, 2, ['b', 'm:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'closed')
    await swallow(fleet, 3, ['a', 'm:latest'], ['b', 'm:latest'])
    assert.equal(fleet.upstreams.breakerState('a'), 'closed', 'one piece of an answer outweighs them all')
  })
})
