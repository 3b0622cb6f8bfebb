import { after, before, describe, it } from 'node:test'
import { Quorum } from './quorum.ts'

describe('with one of three etcd members', () => {
  let quorum: Quorum
  before(async () => {
    quorum = await Quorum.start()
  })
  after(() => quorum.stop())

  for (const role of ['leader', 'follower'] as const) {
    it(`killed, the ${role}, writes go on within three seconds and no lease is lost`, async (test) => {
      test.diagnostic(`longest gap ${await quorum.gapWhileKilled(role)} ms`)
    })
    it(`frozen, the ${role}, writes go on within three seconds and no lease is lost`, async (test) => {
      test.diagnostic(`longest gap ${await quorum.gapWhileFrozen(role, 8000)} ms`)
    })
  }
})
