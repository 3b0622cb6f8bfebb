import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../lib/shared/random.ts'
import { until } from '../support/processes.ts'
import { Candidates, trouble } from './candidates.ts'

const seed = 20_262
const faults = 25
/** Milliseconds: two TTLs. */
const frozenMs = 6000

async function start(test: TestContext): Promise<Candidates> {
  const candidates = await Candidates.start()
  test.after(() => candidates.stop())
  return candidates
}

suite('three candidates', { concurrency: 2 }, () => {
  test(`one leader at most, through ${faults} kills, pauses and partitions of seed ${seed}`, async (test) => {
    const candidates = await start(test)
    const random = seededRandom(seed)
    const under: Promise<void>[] = []
    for (let fault = 0; fault < faults; fault++) {
      under.push(trouble(candidates, random))
      await sleep(800 + random() * 1600)
    }
    await Promise.all(under)
    await candidates.leader()
    const { reigns, writes } = await candidates.assertOneLeader()
    test.diagnostic(`${reigns} reigns, ${writes} writes`)
    assert.ok(reigns > 5 && writes > 100, 'leaders changed and wrote')
  })

  test('a leader frozen in the middle of a write steps down before it learns that the write was refused', async (test) => {
    const candidates = await start(test)
    const { candidate: old, fence } = await candidates.leader()
    await until(
      async () => (await candidates.settled()).some(({ revision }) => revision !== null),
      'a write',
      5000,
    )
    old.proxy.set({ mute: 'up' })
    await sleep(200)
    old.freeze()
    const frozenAt = performance.now()
    const { candidate: next, fence: newFence } = await candidates.leader(fence)
    const wroteBefore = (await candidates.settled()).length
    await until(async () => (await candidates.settled()).length > wroteBefore + 5, 'writes of the next', 5000)
    await sleep(frozenMs - (performance.now() - frozenAt))
    old.proxy.heal()
    await sleep(300)
    const wokenAt = process.hrtime.bigint()
    old.wake()
    const lateOf = async () =>
      (await candidates.settled()).filter(({ id, at }) => id === old.id && BigInt(at) > wokenAt)
    await until(async () => (await lateOf()).length > 0, 'the ends of the writes that were under way', 5000)
    await sleep(1000)

    for (const { wrote, revision, fenceAfter } of await lateOf())
      assert.deepEqual(
        { wrote, revision, fenceAfter },
        { wrote: String(fence), revision: null, fenceAfter: null },
      )
    const reign = (await candidates.reigns()).find((each) => each.fence === fence)
    assert.ok(reign && reign.to < wokenAt, 'it never led again in that term')
    assert.notEqual(next, old)
    assert.ok(newFence > fence)
    await candidates.assertOneLeader()
  })
})
