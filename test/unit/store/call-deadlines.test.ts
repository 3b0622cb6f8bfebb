import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CallDeadlines } from '../../../lib/store/etcd/call-deadlines.ts'

function aPatience(endpoints: number) {
  const clock = { now: 0 }
  const patience = new CallDeadlines(endpoints, () => clock.now)
  /** A call on a connection that stands; fails when the answer would take longer than its deadline. */
  const call = (takesMs: number) => {
    const tookMs = Math.min(takesMs, patience.deadlineMs(true))
    clock.now += tookMs
    if (tookMs < takesMs) patience.unanswered(tookMs)
    else patience.answered(tookMs)
    return tookMs === takesMs
  }
  return { clock, patience, call, deadline: () => patience.deadlineMs(true) }
}

test('every endpoint is asked with a short deadline before any of them gets more time (306)', () => {
  for (const endpoints of [1, 2, 3, 5]) {
    const { call, deadline } = aPatience(endpoints)
    for (let n = 0; n < endpoints; n++) {
      assert.equal(deadline(), 750)
      call(10_000)
    }
    assert.equal(deadline(), 1500)
  }
  const { call, deadline } = aPatience(2)
  for (let n = 0; n < 10; n++) {
    call(10_000)
    assert.ok(call(5), 'the other one answers')
  }
  assert.equal(deadline(), 750)
})

test('deadlines grow up to the share of a TTL that leaves a leader two calls, and a slow etcd then answers all of them (306)', () => {
  for (const [ttlMs, longest] of [
    [10_000, 3000],
    [30_000, 9000],
    [3000, 900],
    [1000, 750],
  ] as const) {
    const { patience, call, deadline } = aPatience(1)
    patience.granted(ttlMs)
    for (let n = 0; n < 20; n++) call(60_000)
    assert.equal(deadline(), longest)
    for (let n = 0; n < 100; n++) assert.ok(call(longest))
  }
  const { patience, call, deadline } = aPatience(1)
  for (let n = 0; n < 20; n++) call(60_000)
  assert.equal(deadline(), 3000, 'before any lease')
  patience.granted(3000)
  assert.equal(deadline(), 900)
})

test('fast reads beside slow writes do not shorten the deadline of the writes (306)', () => {
  const { call, clock } = aPatience(1)
  assert.equal(call(1200), false)
  for (let n = 0; n < 200; n++) {
    for (let read = 0; read < 10; read++) assert.ok(call(5))
    clock.now += 2000
    assert.ok(call(1200), `write ${n}`)
  }
})

test('deadlines are short again soon after a hung member, and a minute after slow answers (306)', () => {
  const hung = aPatience(1)
  hung.call(10_000)
  hung.clock.now += 9000
  assert.equal(hung.deadline(), 750)
  const slow = aPatience(1)
  slow.call(1000)
  slow.call(500)
  slow.clock.now += 50_000
  assert.equal(slow.deadline(), 1500)
  slow.clock.now += 20_000
  assert.equal(slow.deadline(), 750)
})

test('refused connections do not lengthen deadlines (306)', () => {
  const { patience, deadline } = aPatience(2)
  for (let n = 0; n < 100; n++) patience.unanswered(1)
  assert.equal(deadline(), 750)
  patience.unanswered(750)
  patience.unanswered(1)
  assert.equal(deadline(), 1500, 'one of them was waited for')
})

test('a call that first has to connect gets twice the time, once deadlines are longer (306)', () => {
  const { patience, call } = aPatience(1)
  assert.equal(patience.deadlineMs(false), 750)
  call(10_000)
  assert.equal(patience.deadlineMs(false), 3000)
  for (let n = 0; n < 5; n++) call(10_000)
  assert.equal(patience.deadlineMs(false), 3000, 'a peer that never says hello is left within three seconds')
})
