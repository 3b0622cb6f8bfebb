import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type AvailabilityBarrier,
  alwaysAvailable,
  type FleetAvailability,
} from '../../../lib/scheduler/fleet/availability.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aLoadedFleet, anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

const nodes = [
  { name: 'broken' },
  { name: 'busy', slots: 1, loaded: ['m:latest'] },
  { name: 'cold' },
  { name: 'cordoned', state: 'cordoned' as const },
  { name: 'down', health: 'down' as const },
  { name: 'elsewhere', labels: { zone: 'b' } },
  { name: 'empty', models: ['other:1b'] },
  { name: 'new', health: 'unknown' as const },
  { name: 'off', state: 'off' as const },
  { name: 'paused' },
  { name: 'tried' },
  { name: 'warm', loaded: ['m:latest'] },
  { name: 'weightless', weight: 0 },
].map((node) => ({ labels: { zone: 'a' }, ...node }))
const upstreamsWith = (barriers: Record<string, AvailabilityBarrier>): FleetAvailability => ({
  availabilityOf: (node) => ({ ...alwaysAvailable, barrier: barriers[node] ?? null }),
})
const never = new AbortController().signal
const clock = new VirtualClock()

test('the explanation gives the reason for each node that is passed over, and the choice of the scheduler', async () => {
  const upstreams = upstreamsWith({ broken: 'ejected', paused: 'busy' })
  const scheduler = aScheduler(aSnapshot({ nodes }), { upstreams, clock })
  const onBusy = new Set(nodes.map(({ name }) => name).filter((name) => name !== 'busy'))
  await scheduler.acquire(anAsk({ tried: onBusy }), never)
  const ask = anAsk({ labels: { zone: 'a' }, tried: new Set(['tried']) })
  const { pick, panic, perNode } = scheduler.explain(ask)
  assert.ok('node' in pick)
  assert.deepEqual([pick.node.name, pick.reason, panic], ['warm', 'warm', false])
  assert.deepEqual(Object.fromEntries(perNode.map(({ node, barrier }) => [node.name, barrier])), {
    broken: 'breaker',
    busy: 'full',
    cold: null,
    cordoned: 'cordoned',
    down: 'down',
    elsewhere: 'labels',
    empty: 'no-model',
    new: 'unknown',
    off: 'off',
    paused: 'busy',
    tried: 'tried',
    warm: null,
    weightless: 'weight',
  })
  assert.deepEqual(
    perNode
      .filter(({ running, residence }) => running > 0 || residence === 'same')
      .map(({ node }) => node.name),
    ['busy', 'warm'],
  )
  const costs = perNode.filter(({ candidate }) => candidate !== null)
  assert.deepEqual(
    costs.map(({ node, candidate }) => [node.name, candidate?.state]),
    [
      ['busy', 'full'],
      ['cold', 'absent'],
      ['warm', 'ready'],
    ],
  )
})

test('without a free slot the explanation says whether waiting helps', async () => {
  const scheduler = aScheduler(aLoadedFleet({ nodes: [{ name: 'busy', slots: 1 }] }), { clock })
  await scheduler.acquire(anAsk(), never)
  assert.deepEqual(scheduler.explain(anAsk()).pick, { none: 'full' })
  assert.deepEqual(scheduler.explain(anAsk({ model: 'x:1b' })).pick, { none: 'down' })
  assert.deepEqual(scheduler.summary(), { running: { busy: 1 }, queued: 0 }, 'nothing was taken')
})

test('in panic ejected nodes are possible, and nodes that refuse connections or answer nothing are not (P7)', () => {
  const scheduler = aScheduler(aLoadedFleet({ nodes: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] }), {
    upstreams: upstreamsWith({ a: 'ejected', b: 'refused', c: 'frozen' }),
    clock,
  })
  const { pick, panic, perNode } = scheduler.explain(anAsk())
  assert.equal(panic, true)
  assert.ok('node' in pick && pick.node.name === 'a')
  assert.deepEqual(
    perNode.map(({ barrier }) => barrier),
    [null, 'refused', 'frozen'],
  )
})
