import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerReports } from '../../../lib/cluster/probing/peer-reports.ts'
import { Contacts } from '../../../lib/fleet/contacts.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

const load = (reached?: Record<string, number>) => ({ running: {}, queued: 0, ...(reached && { reached }) })

test('answers of a node are published at most every five seconds, and old ones are not (302)', async () => {
  const clock = new VirtualClock()
  const contacts = new Contacts(clock)
  contacts.failed('b')
  contacts.probed('c')
  assert.deepEqual(contacts.windows(), {})
  for (let n = 0; n < 10; n++) {
    contacts.answered('a')
    await clock.advance(400)
  }
  assert.deepEqual(contacts.windows(), { a: 1 })
  await clock.advance(1000)
  contacts.answered('a')
  assert.deepEqual(contacts.windows(), { a: 2 })
  await clock.advance(65_001)
  assert.deepEqual(contacts.windows(), {})
})

test('what other instances tell counts when it moves, with room for the time it was under way (302)', async () => {
  const clock = new VirtualClock()
  const peers = new PeerReports(clock)
  await clock.advance(10_000)
  peers.observe('b', load({ n: 7 }))
  assert.equal(peers.of('n'), null, 'nobody knows when that was')
  peers.observe('b', load({ n: 7, m: 1 }))
  assert.equal(peers.of('n'), null)
  assert.deepEqual(peers.of('m'), { id: 'b', at: 8000 })
  await clock.advance(1000)
  peers.observe('b', load({ n: 8, m: 1 }))
  assert.deepEqual(peers.of('n'), { id: 'b', at: 9000 })
  assert.deepEqual(peers.newest(['m', 'n', 'x']), { id: 'b', at: 9000 })
  peers.observe('b', null)
  peers.observe('b', load({ n: 1 }))
  assert.deepEqual(peers.of('n'), { id: 'b', at: 9000 }, 'a restart begins to count anew')
})
