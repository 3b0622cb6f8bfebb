import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RetryBudget } from '../../../lib/gateway/dispatch/retry-budget.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

/** Retries granted within a minute of so many requests per second, all of which fail. */
async function storm(perSecond: number): Promise<number> {
  const clock = new VirtualClock()
  const budget = new RetryBudget(clock)
  while (budget.spend());
  let granted = 0
  for (let second = 0; second < 60; second++) {
    await clock.advance(1000)
    for (let n = 0; n < perSecond; n++) {
      budget.recordRequest()
      if (budget.spend()) granted++
    }
  }
  return granted
}

test('when everything fails, a tenth of the requests is retried, and at least three a second', async () => {
  const granted = await storm(1000)
  assert(Math.abs(granted - 60 * 100) <= 100, `${granted}`)
  assert(Math.abs((await storm(100)) - 60 * 10) <= 10)
  assert(Math.abs((await storm(10)) - 60 * 3) <= 3)
})

test('fifteen retries at once are allowed, and no more (172)', () => {
  const budget = new RetryBudget(new VirtualClock())
  let granted = 0
  while (budget.spend()) granted++
  assert.equal(granted, 15)
  assert.equal(budget.allows(), false)
})

test('over any ten seconds there are no more than a tenth of the requests and 45, also when far fewer come than before (172)', async () => {
  const clock = new VirtualClock()
  const budget = new RetryBudget(clock)
  const made: { readonly requests: number; readonly retries: number }[] = []
  /** @param wants whether as many are retried as may be. */
  const second = async (requests: number, wants: boolean) => {
    for (let n = 0; n < requests; n++) budget.recordRequest()
    let retries = 0
    while (wants && budget.spend()) retries++
    made.push({ requests, retries })
    await clock.advance(1000)
  }
  for (let n = 0; n < 20; n++) await second(100, false)
  for (let n = 0; n < 30; n++) await second(25, true)
  for (let n = 0; n < 30; n++) await second(n % 10 === 0 ? 250 : 0, true)
  for (let end = 10; end <= made.length; end++) {
    const window = made.slice(end - 10, end)
    const [requests, retries] = [sum(window, 'requests'), sum(window, 'retries')]
    assert.ok(retries <= 45 + 0.1 * requests, `${retries} for ${requests} requests until ${end} s`)
  }
})

function sum<K extends string>(steps: readonly Record<K, number>[], key: K): number {
  return steps.reduce((total, step) => total + step[key], 0)
}

test('a retry without budget waits its turn; one that would wait too long is refused at once', async () => {
  const clock = new VirtualClock()
  const budget = new RetryBudget(clock)
  while (budget.spend());
  const granted: number[] = []
  const { signal } = new AbortController()
  const asked = Array.from({ length: 190 }, async (_, n) => {
    const isGranted = await budget.wait(signal)
    if (isGranted) granted.push(n)
    return isGranted
  })
  await clock.advance(1100)
  assert.deepEqual(granted, [0, 1, 2])
  assert.deepEqual(await Promise.all(asked.slice(180)), Array(10).fill(false))
  await clock.advance(60_000)
  assert.deepEqual(granted, [...Array(180).keys()])
})

test('a waiting retry gives its turn to the next when its caller leaves', async () => {
  const clock = new VirtualClock()
  const budget = new RetryBudget(clock)
  while (budget.spend());
  const leaving = new AbortController()
  const left = budget.wait(leaving.signal)
  const next = budget.wait(new AbortController().signal)
  leaving.abort(new Error('gone'))
  await assert.rejects(left, /gone/)
  await clock.advance(1100)
  assert.equal(await next, true)
  assert(budget.spend(), 'only one was taken')
})
