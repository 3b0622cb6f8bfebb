import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { aCore, aNode, briefly, type Changes } from '../../support/core.ts'

const patience: Changes = { admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6, evidence: 1e9 } }
/** A node that reads 12 tokens a second: 512 of them, a batch, take 42.7 s. */
const slow = (slots = 1) => aNode({ slots, expectedSpeed: 12 / 1500 })
const reads = { streams: true, promptTokens: 5000 }

suite('a caller that disconnects while its prompt is read', () => {
  test('leaves the slot taken until the batch is over (372)', () => {
    const { arrive, after, tell } = aCore([slow()], patience)
    arrive({ id: 'leaves', ...reads })
    after(1)
    assert.deepEqual(briefly(tell({ type: 'left', id: 'leaves' })), [])
    assert.deepEqual(briefly(arrive({ id: 'next' })), [])
    assert.deepEqual(briefly(after(40)), [])
    assert.deepEqual(briefly(after(2.7)), ['next on n'])
  })

  test('leaves the slot taken for no longer than its prompt needs (372)', () => {
    const { core, clock, arrive, after, tell } = aCore([slow()], patience)
    arrive({ id: 'leaves', streams: true, promptTokens: 120 })
    arrive({ id: 'next' })
    after(4)
    assert.deepEqual(briefly(tell({ type: 'left', id: 'leaves' })), [])
    assert.deepEqual(briefly(after(5.9)), [])
    assert.ok((core.nextTickAt(clock.now) ?? 0) <= clock.now + 0.11, 'a tick is requested')
    assert.deepEqual(briefly(after(0.2)), ['next on n'])
  })

  test('frees the slot as soon as another answer on the runner goes on (372)', () => {
    for (const event of [
      { type: 'first-token', id: 'other' },
      { type: 'tokens', id: 'other', tokens: 9 },
    ] as const) {
      const { arrive, after } = aCore([slow(2)], patience)
      arrive({ id: 'leaves', ...reads }, { id: 'other', ...reads })
      if (event.type === 'tokens') after(0.5, { type: 'first-token', id: 'other' })
      after(1, { type: 'left', id: 'leaves' })
      if (event.type === 'tokens') after(1, { ...event, tokens: 4 })
      assert.deepEqual(briefly(arrive({ id: 'next' })), [])
      assert.deepEqual(briefly(after(1, event)), ['next on n'])
    }
  })

  test('frees the slot when the model is no longer in memory (372)', () => {
    const { arrive, after, tell } = aCore([slow()], patience)
    arrive({ id: 'leaves', ...reads })
    after(1, { type: 'left', id: 'leaves' })
    tell({ type: 'fleet', nodes: [{ ...slow(), resident: [] }] })
    tell({ type: 'fleet', nodes: [slow()] })
    assert.deepEqual(briefly(arrive({ id: 'next' })), ['next on n'])
  })

  test('takes no second slot when it retries under the same id (372)', () => {
    const { arrive, after } = aCore([slow()], patience)
    arrive({ id: 'again', ...reads })
    after(1, { type: 'left', id: 'again' })
    assert.deepEqual(briefly(arrive({ id: 'again', ...reads })), [])
    assert.deepEqual(briefly(after(43)), ['again on n'])
  })

  test('counts as one of two requests under one id when it retries while another slot is free (372)', () => {
    const { arrive, after } = aCore([slow(2)], patience)
    arrive({ id: 'again', ...reads })
    after(1, { type: 'left', id: 'again' })
    assert.deepEqual(briefly(arrive({ id: 'again', ...reads })), ['again on n'])
    assert.deepEqual(briefly(arrive({ id: 'next', ...reads })), [], 'both slots are taken')
    assert.deepEqual(briefly(after(43)), ['next on n'])
  })

  test('frees the slot at once if the prompt was read, or cannot have reached the node (372)', () => {
    const { arrive, after, tell } = aCore([slow()], patience)
    arrive({ id: 'writes', ...reads }, { id: 'next', ...reads })
    after(1, { type: 'first-token', id: 'writes' })
    assert.deepEqual(briefly(tell({ type: 'left', id: 'writes' })), ['next on n'])
    arrive({ id: 'last' })
    assert.deepEqual(briefly(tell({ type: 'left', id: 'next' })), ['last on n'])
  })
})
