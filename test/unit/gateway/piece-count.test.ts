import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { PieceCount } from '../../../lib/gateway/response/piece-count.ts'

/** The results for these pieces other than "go-on", in order. */
function told(pieces: {
  readonly count: number
  readonly bytes: number
  readonly everyMs: number
}): string[] {
  const count = new PieceCount(0)
  const all: string[] = []
  for (let nth = 1; nth <= pieces.count; nth++) {
    const now = nth * pieces.everyMs
    const next = count.add(pieces.bytes, now)
    if (next !== 'go-on') all.push(next)
    if (next === 'give-up') break
    if (next === 'pause') count.turnBegan(now)
  }
  return all
}

suite('the pieces of an answer', () => {
  test('of a few bytes each end the response when they come at once (346)', () => {
    assert.deepEqual(told({ count: 10_000, bytes: 1, everyMs: 0.001 }), ['give-up'])
    assert.deepEqual(told({ count: 10_000, bytes: 20, everyMs: 0.1 }), ['give-up'])
  })

  test('are taken when they are few, come slowly, or are as long as lines (346)', () => {
    assert.deepEqual(told({ count: 499, bytes: 1, everyMs: 0 }), [])
    assert.deepEqual(told({ count: 1000, bytes: 1, everyMs: 1 }), ['pause', 'pause'])
    assert.deepEqual(told({ count: 1000, bytes: 80, everyMs: 0 }), ['pause', 'pause'])
  })

  test('that were read before a pause are accepted until the next turn (346)', () => {
    const count = new PieceCount(0)
    const all = Array.from({ length: 2000 }, () => count.add(80, 0))
    assert.deepEqual([all.indexOf('pause'), all.lastIndexOf('pause')], [499, 499])
  })
})
