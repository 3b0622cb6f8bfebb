import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { afterEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../lib/shared/random.ts'
import { Campaign } from '../faults/campaign.ts'
import { healedMs, randomFault, scenarios } from '../faults/scenarios.ts'

const rounds = 7
const randomMs = 10 * 60_000
/** Milliseconds: longer than gRPC takes to find a dead connection. */
const restMs = 10_000

describe('the informers in the long run', () => {
  let campaign: Campaign
  afterEach(() => campaign.stop())

  for (let seed = 1; seed <= rounds; seed++) {
    it(`lose nothing in all scenarios of seed ${seed}`, async (test) => {
      campaign = await Campaign.start(seededRandom(seed))
      for (const { name, run, withinMs } of scenarios) {
        await run(campaign)
        test.diagnostic(`${name}: equal after ${Math.round(await campaign.converge(withinMs))} ms`)
      }
    })
  }

  it('lose nothing in ten minutes of random faults, and neither memory nor descriptors leak', async (test) => {
    const seed = Date.now() % 1e6
    test.diagnostic(`seed ${seed}`)
    campaign = await Campaign.start(seededRandom(seed))
    const before = await footprint()
    const endsAt = performance.now() + randomMs
    let faults = 0
    for (; performance.now() < endsAt; faults++) {
      await randomFault(campaign)
      await campaign.converge(healedMs)
    }
    const after = await footprint()
    test.diagnostic(`${faults} faults; ${JSON.stringify({ before, after })}`)
    assert.ok(after.heapMiB - before.heapMiB < 20)
    assert.ok(Math.abs(after.descriptors - before.descriptors) <= 5)
  })
})

/** At rest, when the connections that were given up are closed, and after a collection (`test:nightly` exposes it). */
async function footprint(): Promise<{ heapMiB: number; descriptors: number }> {
  await sleep(restMs)
  globalThis.gc?.()
  return {
    heapMiB: Math.round(process.memoryUsage().heapUsed / 2 ** 20),
    descriptors: readdirSync('/proc/self/fd').length,
  }
}
