import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explain } from '../../lib/scheduler/explain.ts'
import { type Gate, openPassage, type PassageBarrier } from '../../lib/scheduler/gate.ts'
import { Runners } from '../../lib/scheduler/runners.ts'
import { Slots } from '../../lib/scheduler/slots.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { anAsk, aSnapshot } from '../support/fleet.ts'

const snapshot = aSnapshot({
  nodes: [
    { name: 'broken' },
    { name: 'busy', slots: 1 },
    { name: 'cold' },
    { name: 'cordoned', state: 'cordoned' },
    { name: 'down', health: 'down' },
    { name: 'elsewhere', labels: { zone: 'b' } },
    { name: 'empty', models: ['other:1b'] },
    { name: 'new', health: 'unknown' },
    { name: 'off', state: 'off' },
    { name: 'paused' },
    { name: 'tried' },
    { name: 'warm', loaded: ['m:latest'] },
    { name: 'weightless', weight: 0 },
  ].map((node) => ({ labels: { zone: 'a' }, ...node }) as { name: string }),
})
const gateWith = (barriers: Record<string, PassageBarrier>): Gate => ({
  passage: (node) => ({ ...openPassage, barrier: barriers[node] ?? null }),
})
const runners = new Runners(new VirtualClock())
const gate = gateWith({ broken: 'ejected', paused: 'busy' })
const ask = anAsk({ nodes: { zone: 'a' }, tried: new Set(['tried']) })

test('every node is told why it is passed over, and the choice is that of the scheduler', () => {
  const slots = new Slots()
  slots.take('busy', 'm:latest')
  const { pick, panic, standings } = explain(ask, { snapshot, slots, gate, runners })
  assert.ok('node' in pick)
  assert.deepEqual([pick.node.name, pick.reason, panic], ['warm', 'warm', false])
  assert.deepEqual(Object.fromEntries(standings.map(({ node, barrier }) => [node.name, barrier])), {
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
    standings
      .filter(({ running, residence }) => running > 0 || residence === 'same')
      .map(({ node }) => node.name),
    ['busy', 'warm'],
  )
})

test('when nothing is free, the explanation says whether waiting helps', () => {
  const slots = new Slots()
  const only = aSnapshot({ nodes: [{ name: 'busy', slots: 1 }] })
  slots.take('busy', 'm:latest')
  assert.deepEqual(explain(anAsk(), { snapshot: only, slots, gate, runners }).pick, { none: 'full' })
  assert.deepEqual(explain(anAsk({ model: 'x:1b' }), { snapshot: only, slots, gate, runners }).pick, {
    none: 'down',
  })
})

test('in panic, nodes with bad answers are shown as possible, and those that refuse are not (P7)', () => {
  const { pick, panic, standings } = explain(anAsk(), {
    snapshot: aSnapshot({ nodes: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] }),
    slots: new Slots(),
    runners,
    gate: gateWith({ a: 'ejected', b: 'refused', c: 'refused' }),
  })
  assert.equal(panic, true)
  assert.ok('node' in pick && pick.node.name === 'a')
  assert.deepEqual(
    standings.map(({ barrier }) => barrier),
    [null, 'breaker', 'breaker'],
  )
})
