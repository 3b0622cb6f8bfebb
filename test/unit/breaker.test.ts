import assert from 'node:assert/strict'
import { beforeEach, mock, suite, test } from 'node:test'
import { Breaker, type BreakerState } from '../../lib/gateway/breaker.ts'

const resetMs = 5000

function arrange() {
  const states: BreakerState[] = []
  const breaker = new Breaker(
    { failures: 5, reset: resetMs },
    () => 0.5,
    (state) => states.push(state),
  )
  const report = (sign: Parameters<ReturnType<Breaker['begin']>['settle']>[0]) => breaker.begin().settle(sign)
  return { breaker, states, report }
}

/** opossum settles through promises. */
const settled = () => new Promise((resolve) => setImmediate(resolve))

suite('the breaker', () => {
  beforeEach(() => {
    mock.timers.reset()
    mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  })

  test('opens at the first refused connection', () => {
    const { breaker, report } = arrange()
    report('refused')
    assert.equal(breaker.admits, false)
  })

  test('opens when at least half of five requests failed, and not before', async () => {
    const { breaker, report } = arrange()
    for (const sign of ['bad', 'good', 'bad', 'bad'] as const) report(sign)
    await settled()
    assert.equal(breaker.state, 'closed')
    report('bad')
    await settled()
    assert.equal(breaker.state, 'open')
  })

  test('stays closed however many callers leave or find the node busy', async () => {
    const { breaker, report } = arrange()
    for (let n = 0; n < 100; n++) report('neutral')
    await settled()
    assert.equal(breaker.state, 'closed')
  })

  test('half-open lets one request through; its success closes', async () => {
    const { breaker, report, states } = arrange()
    report('refused')
    mock.timers.tick(resetMs)
    assert.equal(breaker.admits, true)
    const trial = breaker.begin()
    assert.equal(breaker.admits, false)
    trial.settle('good')
    await settled()
    assert.deepEqual(states, ['open', 'half-open', 'closed'])
  })

  test('half-open: a caller who leaves proves nothing, so it opens again', () => {
    const { breaker, report } = arrange()
    report('refused')
    mock.timers.tick(resetMs)
    breaker.begin().settle('neutral')
    assert.equal(breaker.state, 'open')
    mock.timers.tick(resetMs)
    assert.equal(breaker.admits, true)
  })

  test('the late success of a request from before it opened does not close it', async () => {
    const { breaker, report } = arrange()
    const old = breaker.begin()
    report('refused')
    mock.timers.tick(resetMs)
    old.settle('good')
    await settled()
    assert.equal(breaker.state, 'half-open')
  })

  test('opens on failures of requests that took longer than its window', async () => {
    const { breaker } = arrange()
    const slow = Array.from({ length: 5 }, () => breaker.begin())
    mock.timers.tick(60_000)
    for (const trial of slow) trial.settle('bad')
    await settled()
    assert.equal(breaker.state, 'open')
  })
})
