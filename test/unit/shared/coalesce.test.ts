import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Coalescer } from '../../../lib/shared/coalesce.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

test('many requests run a task once, at the earliest time that one of them allows, and later requests run it again', async () => {
  const clock = new VirtualClock()
  const start = clock.now()
  const runs: number[] = []
  const task = new Coalescer(clock, () => runs.push(clock.now() - start))
  task.within(100)
  task.within(200)
  task.within(50)
  task.by(start + 60)
  assert.deepEqual(runs, [], 'a run never happens inside of a request')
  await clock.advance(1000)
  assert.deepEqual(runs, [50])
  task.by(start + 2000)
  task.by(start + 1500)
  await clock.advance(600)
  assert.deepEqual(runs, [50, 1500])
  task.within(0)
  assert.equal(task.isDue, true)
  task.cancel()
  await clock.advance(1000)
  assert.deepEqual([runs, task.isDue], [[50, 1500], false])
})
