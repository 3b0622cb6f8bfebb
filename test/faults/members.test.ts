import assert from 'node:assert/strict'
import { after, before, describe, it, suite, test } from 'node:test'
import { Quorum } from './quorum.ts'

suite('three etcd members', { concurrency: 2 }, () => {
  describe('with one of three etcd members', { concurrency: 1 }, () => {
    let quorum: Quorum
    before(async () => {
      quorum = await Quorum.start()
    })
    after(() => quorum.stop())

    for (const role of ['leader', 'follower'] as const) {
      it(`killed, the ${role}, writes go on within three seconds, no lease is lost and the leader stays`, async (test) => {
        test.diagnostic(`longest gap ${await quorum.gapWhileKilled(role)} ms`)
      })
      it(`frozen, the ${role}, writes go on within three seconds, no lease is lost and the leader stays`, async (test) => {
        test.diagnostic(`longest gap ${await quorum.gapWhileFrozen(role, 5000)} ms`)
      })
    }
  })

  test('without a quorum a leader steps down within 0.7 of its TTL, and followers know that they do not lead', async (test) => {
    const quorum = await Quorum.start()
    try {
      const { demotedMs, unfollowedMs } = await quorum.lost()
      test.diagnostic(
        `stepped down after ${Math.round(demotedMs)} ms, not followed after ${Math.round(unfollowedMs)} ms`,
      )
      assert.ok(demotedMs <= 3500 + 100)
      assert.ok(unfollowedMs <= 5000)
    } finally {
      await quorum.stop()
    }
  })
})
