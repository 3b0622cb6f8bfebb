import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChurnMap } from '../../../lib/shared/churn-map.ts'

test('a churn map keeps its entries in order, however many come and go', () => {
  const roster = new ChurnMap<number, string>()
  roster.set(-1, 'first')
  for (let n = 0; n < 1000; n++) {
    roster.set(n, `of ${n}`)
    if (n >= 3) assert.equal(roster.delete(n - 3), true)
  }
  assert.equal(roster.delete(0), false, 'it has left already')
  assert.deepEqual([...roster.values()], ['first', 'of 997', 'of 998', 'of 999'])
  assert.deepEqual([...roster][0], [-1, 'first'])
  assert.deepEqual([roster.size, roster.get(998), roster.has(3)], [4, 'of 998', false])
})
