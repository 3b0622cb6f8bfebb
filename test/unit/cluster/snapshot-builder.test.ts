import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SnapshotBuilder } from '../../../lib/cluster/config/snapshot-builder.ts'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import { type Log, silentLog } from '../../../lib/shared/log.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import type { Entry } from '../../../lib/store/store.ts'
import { builderOptions, keys } from '../../support/cluster.ts'

const status: NodeStatus = {
  fence: '20',
  health: 'up',
  reason: 'the first probe was answered',
  since: '2026-01-01T00:00:00Z',
  version: '0.12.6',
  models: [],
  loaded: [],
  weight: 2,
}
const down = { ...status, health: 'down', weight: 0 } as const

/** A builder, and the store's content that it is shown. */
function aBuilder() {
  const clock = new VirtualClock()
  const warned: unknown[] = []
  const log: Log = { ...silentLog, warn: (message, fields) => void warned.push([message, fields]) }
  const options = { ...builderOptions(clock), log }
  const { snapshot, contacts, fallback } = options
  const builder = new SnapshotBuilder(options)
  const entries = new Map<string, Entry>()
  return {
    builder,
    warned,
    own: fallback.observations(),
    contacts,
    clock,
    entries,
    /** Shows the whole content. */
    take: (revision: bigint) => builder.follow({ entries, revision }, new Set([keys.uid])),
    /** Shows that the status of the node changed, and nothing else. */
    takeStatus: (revision: bigint) => builder.follow({ entries, revision }, new Set([keys.nodeState('n')])),
    put(key: string, value: string, revision: bigint) {
      const created = entries.get(key)?.created ?? revision
      entries.set(key, { key, value, created, modified: revision, lease: null })
    },
    node: () => snapshot.get().nodes.get('n'),
  }
}

/** A builder with one node that is up. */
function anUpBuilder() {
  const made = aBuilder()
  made.put(keys.uid, 'uid-1', 10n)
  made.put(keys.node('n'), '{url: "http://10.0.0.1:11434", weight: 2}', 11n)
  made.put(keys.nodeState('n'), JSON.stringify(status), 30n)
  assert.equal(made.take(30n), false)
  assert.equal(made.node()?.available, true)
  return made
}

test('a node of a wiped store stays as available as it was, until a leader of the new history has probed it', () => {
  const { take, entries, put, node } = anUpBuilder()
  entries.clear()
  assert.equal(take(1n), true)
  assert.deepEqual([node()?.available, node()?.weight], [true, 2])
  put(keys.nodeState('n'), JSON.stringify({ ...down, fence: '2' }), 3n)
  assert.equal(take(3n), false, 'told once')
  assert.equal(node()?.health, 'down', 'the fences of the former history are forgotten')
  entries.delete(keys.nodeState('n'))
  take(4n)
  assert.equal(node()?.status, null, 'what was inherited does not come back')
})

test('what an earlier process saved counts until the store says more, and only for the same server', () => {
  const saved = anUpBuilder().builder.saved()
  const { builder, take, put, node } = aBuilder()
  assert.ok(saved)
  builder.restore(saved)
  assert.deepEqual([builder.source, node()?.available], ['snapshot', true])
  put(keys.uid, 'uid-1', 10n)
  put(keys.node('n'), '{url: "http://10.0.0.1:11434", weight: 5}', 11n)
  assert.equal(take(30n), false)
  assert.deepEqual([builder.source, node()?.weight], ['store', 5])
  put(keys.node('n'), '{url: "http://10.0.0.9:11434"}', 31n)
  take(31n)
  assert.equal(node()?.status, null, 'another address is another server')
})

test('what the instance probed itself outranks a leader; before its first probe the last advice stays', () => {
  const { builder, own, node } = anUpBuilder()
  own.set('n', null)
  builder.refresh()
  assert.equal(node()?.health, 'up')
  own.set('n', down)
  builder.refresh()
  assert.deepEqual([node()?.health, node()?.weight], ['down', 2], 'advice takes no weight away')
  own.clear()
  builder.refresh()
  assert.equal(node()?.health, 'up')
})

test('a text of a wiped store is read again, also at a revision that was known', () => {
  const { take, entries, put, node } = anUpBuilder()
  entries.clear()
  put(keys.node('n'), '{url: "http://10.0.0.2:11434"}', 11n)
  take(12n)
  assert.equal(node()?.spec.url, 'http://10.0.0.2:11434')
})

/** A builder whose one node a leader advises to be down since some date. */
async function anAdvisedBuilder() {
  const made = anUpBuilder()
  let revision = 30n
  const advise = (health: 'up' | 'down', since: string) => {
    made.put(keys.nodeState('n'), JSON.stringify({ ...status, health, since }), ++revision)
    made.takeStatus(revision)
  }
  const health = () => made.node()?.health
  await made.clock.advance(1000)
  return { ...made, advise, health }
}

test('a node advised down counts as slow once it answers an own request after the advice (301)', async () => {
  const { advise, health, contacts, clock, node } = await anAdvisedBuilder()
  contacts.answered('n')
  await clock.advance(10)
  advise('down', 'monday')
  assert.equal(health(), 'down', 'an answer from before says nothing')
  await clock.advance(10)
  contacts.answered('n')
  assert.equal(health(), 'slow')
  assert.match(node()?.status?.reason ?? '', /advised down .* answers the requests of this instance/)
})

test('a contradicted node is down again once an own request fails there, or it goes down again (301)', async () => {
  const { advise, health, contacts, clock } = await anAdvisedBuilder()
  const answer = async () => {
    await clock.advance(10)
    contacts.answered('n')
  }
  advise('down', 'monday')
  await answer()
  assert.equal(health(), 'slow')
  await clock.advance(10)
  contacts.failed('n')
  assert.equal(health(), 'down')
  await answer()
  assert.equal(health(), 'slow')
  advise('up', 'tuesday')
  assert.equal(health(), 'up')
  await clock.advance(10)
  advise('down', 'wednesday')
  assert.equal(health(), 'down')
  await answer()
  assert.equal(health(), 'slow')
})

test('the same advice signed by another leader is no new advice (301)', async () => {
  const { advise, health, contacts, clock, put, takeStatus } = await anAdvisedBuilder()
  advise('down', 'monday')
  await clock.advance(10)
  contacts.answered('n')
  const signed = { ...status, health: 'down', since: 'monday', fence: '99' }
  put(keys.nodeState('n'), JSON.stringify(signed), 99n)
  takeStatus(99n)
  assert.equal(health(), 'slow')
})

test('the log says of a rejected document whether a version of it is in force', () => {
  const { take, put, warned } = aBuilder()
  const told = (revision: bigint) => {
    take(revision)
    return warned.splice(0)
  }
  put(keys.uid, 'uid-1', 10n)
  put(keys.route('chat'), 'modle: x', 11n)
  const faults = 'line 1: modle: is not a known field (did you mean "model"?)'
  const message = 'document rejected'
  const key = keys.route('chat')
  assert.deepEqual(told(11n), [
    [message, { key, faults, effect: 'the document is ignored: no version of it was ever valid' }],
  ])
  assert.deepEqual(told(11n), [], 'once')
  put(key, 'model: x', 12n)
  assert.deepEqual(told(12n), [])
  put(key, 'modle: x', 13n)
  const effect = 'its last valid version, of revision 12, stays in force'
  assert.deepEqual(told(13n), [[message, { key, faults, effect }]])
})
