import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../lib/shared/random.ts'
import { Candidates, trouble } from '../faults/candidates.ts'

const faults = 200

test(`one leader at most, through ${faults} kills, pauses and partitions`, async (test) => {
  const seed = Date.now() % 1e6
  test.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const candidates = await Candidates.start()
  const under: Promise<void>[] = []
  for (let fault = 0; fault < faults; fault++) {
    under.push(trouble(candidates, random))
    await sleep(800 + random() * 3000)
  }
  await Promise.all(under)
  await candidates.leader()
  const { reigns, writes } = await candidates.assertOneLeader()
  test.diagnostic(`${reigns} reigns, ${writes} writes`)
  assert.ok(reigns > 40 && writes > 1000, 'leaders changed and wrote')
  await candidates.stop()
})
