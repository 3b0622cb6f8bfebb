import { after, before, describe, it } from 'node:test'
import { Quorum } from '../faults/quorum.ts'

const rounds = 5

describe('with one of three etcd members in trouble, again and again', () => {
  let quorum: Quorum
  before(async () => {
    quorum = await Quorum.start()
  })
  after(() => quorum.stop())

  for (let round = 1; round <= rounds; round++) {
    for (const role of ['leader', 'follower'] as const) {
      it(`killed, the ${role}, round ${round}: writes go on within three seconds, no lease is lost and the leader stays`, async (test) => {
        test.diagnostic(`longest gap ${await quorum.gapWhileKilled(role)} ms`)
      })
      it(`frozen for 30 s, the ${role}, round ${round}: writes go on within three seconds, no lease is lost and the leader stays`, async (test) => {
        test.diagnostic(`longest gap ${await quorum.gapWhileFrozen(role, 30_000)} ms`)
      })
    }
  }
})
