import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type IncomingBody,
  SlowBodies,
  slotPace,
  slowestPace,
} from '../../../lib/gateway/body/slow-bodies.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

class Body implements IncomingBody {
  bytes = 0
  isAwaitingCaller = true
  pace = slowestPace
  failedAt: number | null = null
  readonly #clock: VirtualClock

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  readonly tooSlow = () => {
    assert.equal(this.failedAt, null, 'told once')
    this.failedAt = this.#clock.now()
  }
}

/** Lets seconds pass, with so many bytes in each. */
async function pass(clock: VirtualClock, body: Body, seconds: number, bytesPerS: number) {
  for (let second = 0; second < seconds; second++) {
    body.bytes += bytesPerS
    await clock.advance(1000)
  }
}

function start() {
  const clock = new VirtualClock()
  const slow = new SlowBodies(clock)
  const body = new Body(clock)
  slow.add(body)
  return { clock, slow, body }
}

test('a body that does not come times out after ten seconds (344)', async () => {
  const { clock, body } = start()
  await pass(clock, body, 10, 0)
  assert.equal(body.failedAt, null)
  await pass(clock, body, 2, 0)
  assert(body.failedAt)
})

test('single bytes do not keep a body alive, a KiB a second does (344)', async () => {
  const trickle = start()
  await pass(trickle.clock, trickle.body, 12, 10)
  assert(trickle.body.failedAt)
  const steady = start()
  await pass(steady.clock, steady.body, 3600, 1025)
  assert.equal(steady.body.failedAt, null)
})

test('a fast beginning does not pay for an hour of silence (344)', async () => {
  const { clock, body } = start()
  body.bytes = 1e9
  await pass(clock, body, 25, 0)
  assert.equal(body.failedAt, null)
  await pass(clock, body, 10, 0)
  assert(body.failedAt)
})

test('time spent waiting for the node does not count (344)', async () => {
  const { clock, body } = start()
  body.isAwaitingCaller = false
  await pass(clock, body, 3600, 0)
  assert.equal(body.failedAt, null)
})

test('with a slot the pace is faster, with ten seconds of grace (344)', async () => {
  const { clock, body } = start()
  await pass(clock, body, 60, 100_000)
  body.pace = slotPace
  await pass(clock, body, 10, 100_000)
  assert.equal(body.failedAt, null)
  await pass(clock, body, 10, 100_000)
  assert(body.failedAt)
})

test('a complete body is no longer watched, and no timer is left (344)', async () => {
  const { clock, slow, body } = start()
  slow.delete(body)
  await clock.advance(60_000)
  assert.equal(body.failedAt, null)
  assert.equal(clock.nextTimerAt(), null)
})
