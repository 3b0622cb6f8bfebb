import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Term } from '../../../lib/fleet/instance.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { ClusterInstance, keys } from '../../support/cluster.ts'
import { MemoryStore } from '../../support/memory-store.ts'

/** Instances that started one after another: the first one leads. */
async function aCluster(...names: string[]) {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  const instances = names.map((name) => new ClusterInstance(store, name))
  for (const { cluster } of instances) {
    cluster.start()
    await clock.advance(500)
  }
  const terms = () => [...(instances.at(-1) as ClusterInstance).cluster.view.terms()]
  const stop = async () => {
    const stopped = Promise.all(instances.map(({ cluster }) => cluster.stop()))
    await clock.advance(2500)
    await stopped
  }
  return { clock, store, instances, terms, stop, leads: instances[0] as ClusterInstance }
}

/** Who led, and why that ended. */
const told = (terms: readonly (readonly [bigint, Term])[]) =>
  terms.map(([, { instance, why }]) => `${instance}: ${why}`)

test('a leader named as successor has a row within a second, and the one before has an end', async () => {
  const { clock, store, terms, leads, stop } = await aCluster('a', 'b')
  assert.deepEqual(told(terms()), ['a: null'])
  const handedOverAt = clock.date()
  void leads.cluster.stepDown('b')
  await clock.advance(1000)
  assert.deepEqual(told(terms()), ['b: null', 'a: it handed leadership over'])
  const [[fence, now], [, before]] = terms() as [[bigint, Term], [bigint, Term]]
  assert.equal(fence, store.entries.get(keys.leader)?.created)
  assert.equal(now.until, null)
  assert.equal(before.until, now.since)
  assert.ok(new Date(now.since) >= handedOverAt)
  await stop()
})

test('the end of a term says whether its leader stepped down, drained, stopped or lost its lease', async () => {
  const gave = await aCluster('a', 'b')
  void gave.leads.cluster.stepDown()
  await gave.clock.advance(1000)
  assert.deepEqual(told(gave.terms()), ['b: null', 'a: it stepped down'])
  await gave.stop()

  const drained = await aCluster('a', 'b')
  drained.leads.cluster.setDraining(true)
  await drained.clock.advance(1000)
  assert.deepEqual(told(drained.terms()), ['b: null', 'a: it was draining'])
  await drained.stop()

  const left = await aCluster('a', 'b')
  void left.leads.cluster.stop()
  await left.clock.advance(1000)
  assert.deepEqual(told(left.terms()), ['b: null', 'a: it stopped, or its lease expired'])
  await left.stop()

  const cut = await aCluster('a', 'b')
  const { lease } = cut.store.entries.get(keys.leader) ?? {}
  cut.leads.link.isCut = true
  cut.store.revoke(lease ?? '')
  await cut.clock.advance(1000)
  assert.deepEqual(told(cut.terms()), ['b: null', 'a: its lease expired: it crashed, hangs or is cut off'])
  await cut.stop()
})

test('the last hundred terms are kept', async () => {
  const { clock, store, terms, leads, stop } = await aCluster('a')
  const long = { instance: 'z', since: '', until: '', why: null }
  store.revision = 25_000n
  for (let fence = 10_001n; fence <= 10_120n; fence++) store.put(keys.term(fence), JSON.stringify(long))
  store.put(keys.term(20_000n), 'nonsense')
  store.revision = 30_000n
  void leads.cluster.stepDown()
  await clock.advance(5000)
  assert.equal(terms().length, 100)
  assert.equal(terms()[0]?.[0], leads.cluster.fence)
  assert.equal(terms().at(-1)?.[0], 10_022n)
  const { revision } = store
  await clock.advance(4000)
  assert.ok(store.revision - revision <= 1n, 'nothing but a heartbeat is written')
  await stop()
})
