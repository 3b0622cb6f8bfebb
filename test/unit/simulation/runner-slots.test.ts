import assert from 'node:assert/strict'
import { test } from 'node:test'
import { textPrompts } from '../../../lib/simulation/http/engine/text-prompts.ts'
import { type HeldSlot, RunnerSlots } from '../../../lib/simulation/ollama-model/runner-slots.ts'

/** A runner's slots with prompts of text, four characters a token. */
function slotsOf(count: number, host = { tokens: 1000, prompts: 64 }) {
  const slots = new RunnerSlots(count, textPrompts, host)
  const begin = (prompt: string): HeldSlot<string> => {
    let held: HeldSlot<string> | null = null
    slots.enter(prompt, (slot) => {
      held = slot
    })
    assert.ok(held, 'a slot was free')
    return held
  }
  /** Computes the prompt; returns the tokens that were cached. */
  const compute = (prompt: string): number => {
    const slot = begin(prompt)
    slot.release(prompt)
    return slot.cachedTokens
  }
  return { slots, begin, compute }
}

const a = 'a'.repeat(400)
const b = 'b'.repeat(400)
const c = 'c'.repeat(400)

test('a request gets the free slot that knows most of its prompt, else the one that was free for longest', () => {
  const { compute } = slotsOf(2, { tokens: 0, prompts: 64 })
  assert.deepEqual([a, b, `${a}1234`, c, a, b].map(compute), [0, 0, 100, 0, 100, 0])
})

test('what a slot computes for one request is of no use to another at the same time', () => {
  const { begin, compute } = slotsOf(2)
  compute(a)
  const first = begin(`${a}1234`)
  assert.deepEqual([first.cachedTokens, compute(`${a}5678`)], [100, 0])
  first.release(`${a}1234`)
  assert.equal(compute(`${a}1234`), 101)
})

test('the host memory keeps what a slot gave up, as far as it has room, and one copy of a conversation', () => {
  const { compute } = slotsOf(1, { tokens: 210, prompts: 64 })
  assert.deepEqual([a, b, a, b].map(compute), [0, 0, 100, 100])
  assert.deepEqual([c, a, b].map(compute), [0, 100, 100], 'a and b still fit beside the slot')
  const small = slotsOf(1, { tokens: 1000, prompts: 1 })
  assert.deepEqual([a, b, c, b, a].map(small.compute), [0, 0, 0, 100, 0], 'one prompt fits')
})

test('slots are given first come, first served, and a request that leaves the queue gets none', () => {
  const { slots, begin } = slotsOf(1)
  const served: string[] = []
  const first = begin(a)
  const [, leave] = ['b', 'c', 'd'].map((name) =>
    slots.enter(name, (slot) => {
      served.push(name)
      slot.release(name)
    }),
  )
  leave?.()
  assert.equal(slots.active, 1)
  first.release(a)
  assert.deepEqual(served, ['b', 'd'])
  assert.equal(slots.active, 0)
})
