import { after, before, describe, it } from 'node:test'
import { seededDice } from '../../lib/simulator/tokens.ts'
import { Campaign } from './campaign.ts'
import { healedMs, randomFault, scenarios } from './scenarios.ts'

const seed = 20_261
const faults = 8

describe('three informers on one etcd have all it has, and nothing else, after it was', () => {
  let campaign: Campaign
  before(async () => {
    campaign = await Campaign.start(seededDice(seed))
  })
  after(() => campaign.stop())

  for (const { name, run, withinMs } of scenarios) {
    it(name, async (test) => {
      await run(campaign)
      test.diagnostic(`equal after ${Math.round(await campaign.converge(withinMs))} ms`)
    })
  }

  it(`troubled by ${faults} random faults of seed ${seed}`, async (test) => {
    for (let fault = 0; fault < faults; fault++) {
      await randomFault(campaign)
      test.diagnostic(`equal after ${Math.round(await campaign.converge(healedMs))} ms`)
    }
  })
})
