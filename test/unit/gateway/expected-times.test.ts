import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { ExpectedTimes, type Timed } from '../../../lib/gateway/availability/expected-times.ts'

function arrange() {
  const times = new ExpectedTimes()
  let now = 0
  const sent = (node: string, bodyBytes: number, timed: Timed, model = 'm') => ({
    node,
    model,
    timed,
    bodyBytes,
  })
  return {
    pass: (ms: number) => {
      now += ms
    },
    answer: (
      node: string,
      bodyBytes: number,
      tookMs: number,
      { timed = 'first-token' as Timed, n = 1 } = {},
    ) => {
      for (let each = 0; each < n; each++) times.observe(sent(node, bodyBytes, timed), tookMs, now)
    },
    of: (
      node: string,
      bodyBytes: number,
      { timed = 'first-token' as Timed, model = 'm', isResident = true } = {},
    ) => times.of(sent(node, bodyBytes, timed, model), isResident, now),
    times,
  }
}

suite('the first token', () => {
  test('of a known node is expected within 5 times its usual time, and 10 s, or 3 s once well known (305)', () => {
    const { answer, of } = arrange()
    answer('a', 100_000, 4000)
    assert.equal(of('a', 100_000).ms, 20_000)
    assert.equal(of('a', 100).ms, 10_000)
    answer('a', 100, 40, { n: 20 })
    assert.equal(of('a', 100).ms, 3000)
    assert.equal(of('a', 100).known, 'here')
  })

  test('takes longer in proportion for a longer prompt, so that reading one is no fault (305)', () => {
    const { answer, of } = arrange()
    answer('a', 10_000, 1000, { n: 20 })
    assert(of('a', 1_000_000).ms > 400_000, `${of('a', 1_000_000).ms}`)
  })

  test('raises the expected time at once when late, and lowers it slowly when early', () => {
    const { answer, of } = arrange()
    answer('a', 10_000, 1000, { n: 200 })
    answer('a', 10_000, 20_000)
    assert(of('a', 10_000).ms > 99_999)
    answer('a', 10_000, 1000)
    assert(of('a', 10_000).ms > 80_000)
  })

  test('of an unknown node is expected as late as of the slowest known one (312)', () => {
    const { answer, of } = arrange()
    answer('fast', 1000, 30)
    answer('slow', 1000, 27_000)
    assert.deepEqual([of('new', 1000).ms, of('new', 1000).known], [135_000, 'elsewhere'])
    assert.equal(of('fast', 1000).ms, 10_000, 'its own times count first')
  })

  test('of a model without any response has a minute, and longer for a long prompt (312)', () => {
    const { answer, of } = arrange()
    answer('a', 100, 40)
    const unknown = of('a', 100, { model: 'other' })
    assert.deepEqual(unknown, { ms: 60_000, known: 'nowhere', usualMs: 0 })
    assert(of('a', 1_000_000, { model: 'other' }).ms > 10_000_000, 'a long prompt takes a slow node long')
  })

  test('of a model that is not in memory any more has a minute more to load (312)', () => {
    const { answer, of } = arrange()
    answer('a', 100, 40, { n: 20 })
    assert.equal(of('a', 100, { isResident: false }).ms, 60_000)
    assert.equal(of('a', 100).ms, 3000)
  })

  test('of a removed node is forgotten', () => {
    const { answer, of, times } = arrange()
    answer('a', 100, 40)
    times.forget('a')
    assert.equal(of('a', 100).known, 'nowhere')
  })
})

suite('a whole answer', () => {
  const timed = 'whole'

  test('has no limit before the first response (312)', () => {
    const { answer, of } = arrange()
    answer('a', 100, 40)
    assert.deepEqual(of('a', 100, { timed }), { ms: Number.POSITIVE_INFINITY, known: 'nowhere', usualMs: 0 })
  })

  test('may take half as long again as the longest of any node, or 3 s more, once well known; else a minute (305)', () => {
    const { answer, of } = arrange()
    answer('a', 100, 500, { timed })
    assert.equal(of('a', 100, { timed }).ms, 60_000)
    answer('a', 100, 500, { timed, n: 10 })
    assert.equal(of('a', 100, { timed }).ms, 3500)
    answer('b', 100, 40_000, { timed })
    assert.equal(of('a', 100, { timed }).ms, 60_000)
    assert.equal(of('a', 100, { timed }).known, 'here')
    assert.equal(of('c', 100, { timed }).known, 'elsewhere')
  })

  test('that was long counts for an hour at least, and for two at most', () => {
    const { answer, of, pass } = arrange()
    const hour = 3_600_000
    pass(10 * hour)
    answer('a', 100, 80_000, { timed })
    answer('a', 100, 500, { timed, n: 10 })
    pass(hour)
    answer('a', 100, 500, { timed })
    assert.equal(of('a', 100, { timed }).ms, 120_000)
    pass(hour)
    assert.equal(of('a', 100, { timed }).ms, 3500)
  })

  test('that took far longer than the others, once in a hundred answers, does not count (305)', () => {
    const { answer, of } = arrange()
    answer('a', 100, 500, { timed, n: 300 })
    answer('a', 100, 50_000, { timed, n: 3 })
    assert.equal(of('a', 100, { timed }).ms, 3500)
    answer('a', 100, 50_000, { timed })
    assert.equal(of('a', 100, { timed }).ms, 75_000)
  })

  test('of a longer prompt than any before may take longer', () => {
    const { answer, of } = arrange()
    answer('a', 1000, 4000, { timed, n: 10 })
    assert(of('a', 100_000, { timed }).ms > 500_000)
  })
})

suite('a model that left the memory of its node', () => {
  test('may take five times its longest load on top, or a minute without a known load (305)', () => {
    const { answer, of, times } = arrange()
    answer('a', 100, 40, { n: 20 })
    assert.equal(of('a', 100, { isResident: false }).ms, 60_000)
    times.loaded('m', 2000)
    times.loaded('m', 500)
    assert.equal(of('a', 100, { isResident: false }).ms, 3000 + 10_000)
    assert.equal(of('b', 100, { isResident: true }).ms, 10_000)
  })
})
