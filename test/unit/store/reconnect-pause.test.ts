import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../../lib/shared/random.ts'
import { reconnectPauseMs } from '../../../lib/store/etcd/reconnect-pause.ts'

/** The most connects within any second, when everybody lost the store at 0 and tries in vain until `untilMs`. */
function busiestSecond(instances: number, untilMs: number, random: () => number): number {
  const connects: number[] = []
  for (let instance = 0; instance < instances; instance++) {
    let at = 0
    for (let failures = 1; at < untilMs; failures++) {
      at += reconnectPauseMs(instances, failures, random())
      connects.push(at)
    }
  }
  connects.sort((a, b) => a - b)
  return Math.max(
    ...connects.map((from, index) => connects.slice(index).filter((at) => at < from + 1000).length),
  )
}

test('a hundred instances make at most 30 connects in any second, however long the store is away (178)', () => {
  const random = seededRandom(7)
  for (let run = 0; run < 5; run++) {
    const most = busiestSecond(100, 60_000, random)
    assert.ok(most <= 30, `${most} connects in one second`)
  }
})

test('up to ten instances connect whenever they have reason to; of more, each is back within its turn and a half', () => {
  for (const chance of [0, 0.5, 0.999]) {
    for (const failures of [1, 2, 9]) assert.equal(reconnectPauseMs(10, failures, chance), 0)
    assert.ok(reconnectPauseMs(30, 1, chance) <= 2500)
    assert.ok(reconnectPauseMs(30, 5, chance) <= 3750)
  }
})
