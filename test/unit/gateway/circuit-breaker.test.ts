import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { defaultConfig } from '../../../lib/fleet/config.ts'
import {
  type BreakerState,
  CircuitBreaker,
  type HealthSign,
} from '../../../lib/gateway/availability/circuit-breaker.ts'
import type { Random } from '../../../lib/shared/random.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

const { reset: resetMs, max_reset: maxMs } = defaultConfig.breaker
const trialLimitMs = 5000

/** The default `random` adds no jitter. */
function arrange({
  random = () => 0.5,
  clock = new VirtualClock(),
}: {
  random?: Random
  clock?: VirtualClock
} = {}) {
  const states: BreakerState[] = []
  const moves: { state: BreakerState; at: number }[] = []
  const breaker = new CircuitBreaker({
    settings: defaultConfig.breaker,
    clock,
    random,
    onState: (state) => {
      states.push(state)
      moves.push({ state, at: clock.now() })
    },
  })
  const report = async (...signs: HealthSign[]) => {
    for (const sign of signs) breaker.begin().settle(sign)
    await clock.advance(0) // opossum judges through promises
  }
  /** How long it stayed open each time, in milliseconds. */
  const pauses = () =>
    moves.flatMap(({ state, at }, nth) =>
      state === 'open' && moves[nth + 1] ? [(moves[nth + 1]?.at ?? 0) - at] : [],
    )
  return { breaker, clock, states, pauses, report }
}

suite('the breaker', () => {
  test('opens at the first refused connection, with the cause "refused"', async () => {
    const { breaker, report } = arrange()
    await report('refused')
    assert.deepEqual([breaker.admits, breaker.cause], [false, 'refused'])
  })

  test('opens when more than half of five requests failed, and not before (173, P6)', async () => {
    const { breaker, report } = arrange()
    await report('bad', 'good', 'bad', 'bad')
    assert.equal(breaker.state, 'closed')
    await report('bad')
    assert.deepEqual([breaker.state, breaker.cause], ['open', 'passive'])
  })

  test('forgets failures that are older than its window (P6)', async () => {
    const { breaker, clock, report } = arrange()
    await report('bad', 'bad', 'bad', 'bad')
    await clock.advance(33_000)
    await report('bad')
    assert.equal(breaker.state, 'closed')
  })

  test('stays closed when callers leave or the node is busy (176)', async () => {
    const { breaker, report } = arrange()
    await report(...Array.from({ length: 100 }, () => 'neutral' as const))
    assert.equal(breaker.state, 'closed')
  })

  test('half-open lets one request through; its success closes (173)', async () => {
    const { breaker, clock, report, states } = arrange()
    await report('refused')
    await clock.advance(resetMs)
    assert.equal(breaker.admits, true)
    const trial = breaker.begin()
    assert.equal(breaker.admits, false)
    trial.settle('good')
    assert.deepEqual(states, ['open', 'half-open', 'closed'])
    assert.equal(breaker.cause, null)
  })

  test('half-open: a request takes the permit with its slot, before it is sent', async () => {
    const { breaker, clock, report } = arrange()
    await report('refused')
    await clock.advance(resetMs)
    breaker.reserve()
    assert.equal(breaker.admits, false)
    breaker.begin().settle('good')
    assert.equal(breaker.state, 'closed')
  })

  test('half-open: when the caller leaves, it opens again, for no longer than before (173)', async () => {
    const { breaker, clock, report } = arrange()
    await report('refused')
    await clock.advance(resetMs)
    await report('neutral')
    assert.deepEqual([breaker.state, breaker.cause], ['open', 'refused'])
    await clock.advance(resetMs)
    assert.equal(breaker.admits, true)
  })

  test('half-open: a request that hangs ends at its deadline, and its late success does not count (173)', async () => {
    const { breaker, clock, report, states } = arrange()
    await report('refused')
    await clock.advance(resetMs)
    const hung = breaker.begin()
    await clock.advance(trialLimitMs - 1)
    assert.equal(breaker.state, 'half-open')
    await clock.advance(1)
    assert.deepEqual([breaker.state, breaker.cause], ['open', 'passive'])
    hung.settle('good')
    await clock.advance(2 * resetMs)
    assert.deepEqual(states, ['open', 'half-open', 'open', 'half-open'])
  })

  test('the late success of a request from before it opened does not close it (174)', async () => {
    const { breaker, clock, report } = arrange()
    const old = breaker.begin()
    await report('refused')
    await clock.advance(resetMs)
    old.settle('good')
    assert.equal(breaker.state, 'half-open')
  })

  test('opens on failures of requests that took longer than its window (175)', async () => {
    const { breaker, clock } = arrange()
    const slow = Array.from({ length: 5 }, () => breaker.begin())
    await clock.advance(60_000)
    for (const trial of slow) trial.settle('bad')
    await clock.advance(0)
    assert.equal(breaker.state, 'open')
  })

  for (const lastedMs of [100, 60_000]) {
    test(`opens when every answer begins well and breaks after ${lastedMs} ms (175)`, async () => {
      const { breaker, clock } = arrange()
      for (let n = 0; n < 5; n++) {
        const trial = breaker.begin()
        trial.settle('good')
        await clock.advance(20)
        clock.after(lastedMs, () => trial.failAfterHead())
      }
      assert.equal(breaker.state, 'closed')
      await clock.advance(lastedMs)
      assert.equal(breaker.state, 'open')
    })
  }

  test('a request with a broken response counts once, as a failure: an equal number of good ones keeps it closed', async () => {
    const { breaker, clock, report } = arrange()
    for (let n = 0; n < 8; n++) {
      await report('good')
      const trial = breaker.begin()
      trial.settle('good')
      trial.failAfterHead()
      trial.failAfterHead()
      await clock.advance(0)
    }
    assert.equal(breaker.state, 'closed')
    const trial = breaker.begin()
    trial.settle('good')
    trial.failAfterHead()
    await clock.advance(0)
    assert.equal(breaker.state, 'open')
  })

  test('a half-open request that closed it and then breaks counts in the new window', async () => {
    const { breaker, clock, report } = arrange()
    await report('refused')
    await clock.advance(resetMs)
    const trial = breaker.begin()
    trial.settle('good')
    trial.failAfterHead()
    await report('bad', 'bad', 'bad')
    assert.equal(breaker.state, 'closed')
    await report('bad')
    assert.equal(breaker.state, 'open')
  })

  test('a response that breaks after a change of state, or never began well, does not count', async () => {
    const { breaker, clock, report } = arrange()
    const old = Array.from({ length: 10 }, () => breaker.begin())
    for (const trial of old) trial.settle('good')
    const failed = breaker.begin()
    await report('refused')
    await clock.advance(resetMs)
    await report('good')
    for (const trial of old) trial.failAfterHead()
    failed.settle('bad')
    failed.failAfterHead()
    await clock.advance(0)
    assert.equal(breaker.state, 'closed')
  })

  test('pauses double with each re-opening up to the longest (152)', async () => {
    const { breaker, clock, report, pauses } = arrange()
    await report('refused')
    while (clock.now() < 90_000) {
      await clock.advance(100)
      if (breaker.admits) await report('bad')
    }
    assert.deepEqual(pauses().slice(0, 5), [resetMs, 2 * resetMs, maxMs, maxMs, maxMs])
  })

  test('a node that flaps keeps its long pauses; after a healthy time the pause is the first again (152)', async () => {
    const { clock, report, pauses } = arrange()
    const fallAfter = async (quietMs: number) => {
      await clock.advance(quietMs)
      await report('refused')
      await clock.advance(maxMs)
      await report('good')
    }
    await fallAfter(0)
    await fallAfter(3000)
    await fallAfter(3000)
    await fallAfter(maxMs)
    assert.deepEqual(pauses(), [resetMs, 2 * resetMs, maxMs, resetMs])
  })

  test('a recovered node is used again within 30 s, even with the longest jitter and after a half-open request that hung (173)', async () => {
    for (const die of [0, 0.5, 0.999]) {
      const { breaker, clock, report } = arrange({ random: () => die })
      await report('refused')
      let lastTrialAt = 0
      while (clock.now() < 200_000) {
        await clock.advance(10)
        if (!breaker.admits) continue
        assert(clock.now() - lastTrialAt <= 30_000)
        lastTrialAt = clock.now()
        breaker.begin()
      }
    }
  })

  test('the breakers of three instances try a recovering node at different moments, each once per pause (177)', async () => {
    const clock = new VirtualClock()
    const random = [0.1, 0.5, 0.9].map((die) => arrange({ random: () => die, clock }))
    const trials: number[][] = [[], [], []]
    for (const { report } of random) await report('refused')
    while (clock.now() < 60_000) {
      await clock.advance(10)
      for (const [nth, { breaker, report }] of random.entries()) {
        if (!breaker.admits) continue
        trials[nth]?.push(clock.now())
        await report('bad')
      }
    }
    assert.equal(new Set(trials.map((each) => each[0])).size, 3)
    for (const each of trials) {
      for (const [nth, at] of each.entries()) assert(at - (each[nth - 1] ?? 0) >= 0.8 * resetMs)
      assert(each.length <= 5, 'pauses grow')
    }
  })

  test('a half-open request may take twice the usual time, so that the breaker of a slow node closes (305)', async () => {
    const { breaker, clock, report } = arrange()
    await report('bad', 'bad', 'bad', 'bad', 'bad')
    await clock.advance(resetMs)
    const trial = breaker.begin(() => 14_000)
    await clock.advance(27_000)
    assert.equal(breaker.state, 'half-open')
    trial.settle('good')
    assert.equal(breaker.state, 'closed')
    const hanging = arrange()
    await hanging.report('bad', 'bad', 'bad', 'bad', 'bad')
    await hanging.clock.advance(resetMs)
    hanging.breaker.begin(() => 14_000)
    await hanging.clock.advance(28_000)
    assert.equal(hanging.breaker.state, 'open')
  })

  test('a node that accepts connections again is tried without a pause, but not one with bad responses (304)', async () => {
    const { breaker, report } = arrange()
    await report('refused')
    breaker.connectSucceeded()
    assert.equal(breaker.state, 'half-open')
    breaker.connectFailed()
    assert.equal(breaker.state, 'open')
    const bad = arrange()
    await bad.report('bad', 'bad', 'bad', 'bad', 'bad')
    bad.breaker.connectSucceeded()
    assert.equal(bad.breaker.state, 'open')
  })

  test('requests sent past an open breaker change nothing, except that a refused connection is noted', async () => {
    const { breaker, report } = arrange()
    await report('bad', 'bad', 'bad', 'bad', 'bad')
    await report('good', 'bad', 'neutral')
    assert.deepEqual([breaker.state, breaker.cause], ['open', 'passive'])
    await report('refused')
    assert.deepEqual([breaker.state, breaker.cause], ['open', 'refused'])
  })

  test('once stopped it has no timers, and no late result sets one (157)', async () => {
    const { breaker, clock, report, states } = arrange()
    const late = breaker.begin()
    const streaming = breaker.begin()
    streaming.settle('good')
    await report('bad', 'bad', 'bad', 'bad', 'bad')
    breaker.stop()
    late.settle('refused')
    streaming.failAfterHead()
    assert.equal(clock.nextTimerAt(), null)
    assert.deepEqual(states, ['open'])
  })
})
