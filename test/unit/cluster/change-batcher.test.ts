import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChangeBatcher } from '../../../lib/cluster/config/change-batcher.ts'
import { SnapshotBuilder } from '../../../lib/cluster/config/snapshot-builder.ts'
import { buildSnapshot } from '../../../lib/fleet/snapshot.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import type { Entry } from '../../../lib/store/store.ts'
import { builderOptions, keys } from '../../support/cluster.ts'
import { aDocuments } from '../../support/fleet.ts'

const nodes = 200
const name = (nth: number) => `node-${String(nth).padStart(3, '0')}`
const models = Array.from({ length: 50 }, (_, nth) => `a-model-with-a-rather-long-name-${nth}:latest`)
const { statuses } = aDocuments({
  nodes: Array.from({ length: nodes }, (_, nth) => ({ name: name(nth), models })),
})

/** A virtual clock on which work takes time. */
class SlowClock extends VirtualClock {
  lagMs = 0

  override now(): number {
    return super.now() + this.lagMs
  }
}

/** A builder behind a batcher, and what both did. */
function aBatcher({ takeMs = 0 } = {}) {
  const clock = new SlowClock()
  const shared = builderOptions(clock)
  const { snapshot } = shared
  const builder = new SnapshotBuilder(shared)
  const entries = new Map<string, Entry>()
  const taken: string[][] = []
  const slices: number[] = []
  let revision = 0n
  const batcher = new ChangeBatcher({
    ...shared,
    informer: {
      entries,
      get revision() {
        return revision
      },
    },
    builder: {
      read: (entry) => builder.read(entry),
      prepare: (slice) => {
        slices.push(slice.reduce((chars, { value }) => chars + value.length, 0))
        builder.prepare(slice)
      },
      follow: (copy, changed) => {
        taken.push([...changed])
        clock.lagMs += takeMs
        return builder.follow(copy, changed)
      },
    },
    followed: () => {},
  })
  const put = (key: string, value: string) => {
    const created = entries.get(key)?.created ?? ++revision
    entries.set(key, { key, value, created, modified: ++revision, lease: null })
    return key
  }
  const tell = (key: string, value: string) => batcher.add(new Set([put(key, value)]))
  return { clock, snapshot, builder, entries, batcher, taken, slices, put, tell }
}

/** The same, with the whole fleet in the store. */
function aFleet() {
  const made = aBatcher()
  for (let nth = 0; nth < nodes; nth++)
    made.put(keys.node(name(nth)), `{url: "http://10.0.0.1:${nth + 1}", weight: ${nth % 3}}`)
  for (const [node, status] of statuses) made.put(keys.nodeState(node), JSON.stringify(status))
  return made
}

test('a whole fleet is read in slices, put in force at once, and is what it would be in one piece', async () => {
  const { clock, snapshot, builder, entries, batcher, taken, slices } = aFleet()
  let swaps = 0
  snapshot.onSwap(() => swaps++)
  batcher.add(new Set(entries.keys()))
  await clock.advance(1000)
  assert.deepEqual([swaps, taken.length], [1, 1])
  assert.ok(slices.length > 10, `${slices.length} slices`)
  assert.ok(Math.max(...slices) < 100_000, `at most ${Math.max(...slices)} characters in one turn`)
  const { revision, nodes: views, models: modelViews } = snapshot.get()
  const whole = aBatcher()
  whole.builder.follow({ entries, revision: BigInt(revision) }, new Set(entries.keys()))
  assert.deepEqual([...views], [...whole.snapshot.get().nodes])
  assert.deepEqual([...modelViews], [...whole.snapshot.get().models])
  assert.equal(builder.source, 'store')
})

test('entries that were prepared and deleted again leave nothing behind', async () => {
  const { clock, snapshot, entries, batcher, slices } = aFleet()
  batcher.add(new Set(entries.keys()))
  assert.ok(slices.length > 0 && snapshot.get().nodes.size === 0, 'begun, and nothing of it in force')
  const gone = [...entries.keys()]
  entries.clear()
  batcher.add(new Set(gone))
  await clock.advance(1000)
  assert.deepEqual(snapshot.get().models, buildSnapshot(aDocuments({})).models)
})

test('a status that comes alone is in force before the call returns', () => {
  const { tell, taken } = aBatcher()
  tell(keys.nodeState('n'), '{}')
  assert.deepEqual(taken, [[keys.nodeState('n')]])
})

test('a thousand statuses within a second are put in force in twenty batches at most, the last one too', async () => {
  const { clock, tell, taken, batcher } = aBatcher()
  for (let nth = 0; nth < 1000; nth++) {
    tell(keys.nodeState(`n-${nth}`), '{}')
    await clock.advance(1)
  }
  await clock.advance(50)
  assert.ok(taken.length <= 21, `${taken.length} times`)
  assert.equal(taken.flat().length, 1000)
  batcher.stop()
})

test('a thousand documents within a second are put in force in few batches when each takes long (343)', async () => {
  const { clock, tell, taken, batcher } = aBatcher({ takeMs: 5 })
  for (let nth = 0; nth < 1000; nth++) {
    tell(keys.route(`r-${nth}`), '{}')
    await clock.advance(1)
  }
  await clock.advance(50)
  assert.ok(taken.length <= 110, `${taken.length} times`)
  assert.equal(taken.flat().length, 1000)
  batcher.stop()
})

test('documents are not delayed when batches take no time', () => {
  const { tell, taken } = aBatcher()
  tell(keys.route('a'), '{}')
  tell(keys.route('b'), '{}')
  assert.deepEqual(taken, [[keys.route('a')], [keys.route('b')]])
})

test('a departed node keeps its status while statuses are put in force that were read ahead', async () => {
  const { clock, put, snapshot, batcher, entries } = aBatcher()
  const status = (health: string) => JSON.stringify({ ...statuses.get(name(0)), health })
  const document = '{url: "http://10.0.0.1:1"}'
  put(keys.remembered('gone'), JSON.stringify({ fence: '0', document, departed: null }))
  batcher.add(new Set(entries.keys()))
  await clock.advance(100)
  const before = snapshot.get().nodes.get('gone')
  assert.ok(before?.departed)
  const many = Array.from({ length: 40 }, (_, nth) => put(keys.nodeState(`n-${nth}`), status('up')))
  batcher.add(new Set([put(keys.nodeState('gone'), status('up')), ...many]))
  await clock.advance(100)
  assert.equal(snapshot.get().nodes.get('gone')?.status, before.status)
})

test('a change of another key is not delayed, and takes the delayed statuses with it', () => {
  const { tell, taken } = aBatcher()
  tell(keys.nodeState('a'), '{}')
  tell(keys.nodeState('b'), '{}')
  assert.equal(taken.length, 1)
  tell(keys.leader, 'one')
  assert.deepEqual(taken[1], [keys.nodeState('b'), keys.leader])
})

test('a stopped batcher puts nothing in force any more', async () => {
  const { clock, tell, taken, batcher } = aBatcher()
  tell(keys.nodeState('a'), '{}')
  tell(keys.nodeState('b'), '{}')
  batcher.stop()
  await clock.advance(1000)
  assert.equal(taken.length, 1)
})
