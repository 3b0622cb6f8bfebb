import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { defaultConfig } from '../../../lib/fleet/config.ts'
import { BodyBudget } from '../../../lib/gateway/body/body-budget.ts'
import { BodyBuffer, roomOf } from '../../../lib/gateway/body/body-buffer.ts'

const { limits } = defaultConfig

test('a body in any number of pieces, announced or not, is complete, and all of it counts', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), fc.boolean(), (pieces, isAnnounced) => {
      const budget = new BodyBudget()
      const share = budget.open('tenant a')
      const held = new BodyBuffer(limits, share)
      const whole = Buffer.concat(pieces)
      if (isAnnounced) held.announce(whole.length)
      assert.equal(budget.held, 0, 'announcing takes nothing')
      for (const piece of pieces) held.add(Buffer.from(piece))
      assert.deepEqual(held.bytes, whole)
      assert.ok(budget.held >= whole.length && budget.held <= 2 * whole.length)
      held.release()
      assert.equal(budget.held, 0)
    }),
  )
})

test('a piece with its own memory is kept; a small part of a large allocation is copied', () => {
  const held = () => new BodyBuffer(limits, new BodyBudget().open('tenant a'))
  const own = Buffer.from(new ArrayBuffer(300))
  const alone = held()
  alone.add(own)
  assert.equal(alone.bytes.buffer, own.buffer)
  const part = Buffer.from(new ArrayBuffer(64 * 1024)).subarray(0, 300)
  const copied = held()
  copied.add(part)
  assert.notEqual(copied.bytes.buffer, part.buffer)
})

test('bodies hold no more than a quarter of the memory that a container may use, and one largest body passes (309)', () => {
  const mib = 1024 ** 2
  assert.equal(roomOf(limits, 1024 * mib).together, 256 * mib)
  assert.equal(roomOf(limits, 64 * 1024 * mib).together, limits.inflight_body_bytes)
  for (const unlimited of [0, 2 ** 64])
    assert.equal(roomOf(limits, unlimited).together, limits.inflight_body_bytes)
  const small = roomOf(limits, 128 * mib)
  const budget = new BodyBudget()
  assert.equal(budget.open('a').take(small.alone, small), true)
  assert.equal(budget.open('b').take(1024, small), false)
})

test('a body that grows into the last of the room is not copied more often (344)', () => {
  const mib = 64 * 1024
  const sizes = { body_bytes: 64 * mib, inflight_body_bytes: 100 * mib }
  for (const other of [0, 10, 40, 50, 66, 68, 73].map((n) => n * mib)) {
    const budget = new BodyBudget()
    assert.equal(budget.open('b').take(other, roomOf(sizes)), true)
    const held = new BodyBuffer(sizes, budget.open('a'))
    const memories = new Set<ArrayBufferLike>()
    let copied = 0
    try {
      for (let n = 0; n < 64 * 16; n++) {
        held.add(Buffer.allocUnsafe(mib / 16))
        if (!memories.has(held.bytes.buffer)) copied += held.size
        memories.add(held.bytes.buffer)
      }
    } catch (error) {
      assert.match(String(error), /too many request bodies/)
    }
    assert.ok(held.size > 0 && copied <= 6 * held.size, `beside ${other}: ${copied} copied of ${held.size}`)
    held.release()
  }
})
