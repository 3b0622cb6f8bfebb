import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Ask } from '../../lib/fleet/ask.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { contextVariant } from '../../lib/fleet/variant.ts'
import { openPassage } from '../../lib/scheduler/gate.ts'
import { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { anAsk, aSnapshot } from '../support/fleet.ts'

type Nodes = NonNullable<NonNullable<Parameters<typeof aSnapshot>[0]>['nodes']>

function arrange(nodes: Nodes) {
  const snapshot = new CurrentSnapshot()
  const show = (shown: Nodes) => snapshot.swap(aSnapshot({ nodes: shown }))
  show(nodes)
  const clock = new VirtualClock()
  const scheduler = new Scheduler({ snapshot, gate: { passage: () => openPassage }, clock })
  const acquire = (variant: string, ask: Partial<Ask> = {}) =>
    scheduler.acquire(anAsk({ arrivedAt: clock.now(), variant, ...ask }), new AbortController().signal)
  const barriers = (variant: string) =>
    scheduler.explain(anAsk({ variant })).standings.map(({ barrier }) => barrier)
  return { clock, scheduler, acquire, show, barriers }
}

const large = contextVariant(8192)
const small = contextVariant(4096)
const loaded = ['m:latest']

suite('variants', () => {
  test('one that is busy keeps the node from others, who wait or go elsewhere', async () => {
    const one = arrange([{ name: 'a', slots: 4, loaded }])
    const holder = await one.acquire('')
    const waiting = one.acquire(large)
    assert.deepEqual([one.scheduler.summary().queued, one.barriers(large)], [1, ['variant']])
    assert.equal((await one.acquire('')).node.name, 'a', 'its own go on')
    holder[Symbol.dispose]()
    assert.equal(one.scheduler.summary().queued, 1, 'one of two still runs')
    waiting.catch(() => {})

    const two = arrange([
      { name: 'a', slots: 4, loaded },
      { name: 'b', slots: 4 },
    ])
    await two.acquire('')
    const elsewhere = await two.acquire(large)
    assert.deepEqual([elsewhere.node.name, elsewhere.reason], ['b', 'cold-load'])
  })

  test('who waits for a busy one is served once it is idle', async () => {
    const { acquire } = arrange([{ name: 'a', slots: 4, loaded }])
    const holder = await acquire('')
    const waiting = acquire(large)
    holder[Symbol.dispose]()
    assert.equal((await waiting).reason, 'cold-load')
  })

  test('prefers the node that has it, then one without the model, then an idle one of another variant', async () => {
    const nodes = [
      { name: 'other', weight: 9, loaded },
      { name: 'empty', weight: 5 },
      { name: 'same', loaded, context: 8192 },
    ]
    const { acquire } = arrange(nodes)
    const order = [await acquire(large), await acquire(large), await acquire(large)]
    assert.deepEqual(
      order.map(({ node, reason }) => [node.name, reason]),
      [
        ['same', 'warm'],
        ['empty', 'cold-load'],
        ['other', 'cold-load'],
      ],
    )
  })

  test('a runner with its own context serves who asks for as much, and one that we loaded with a context not who asks for none', async () => {
    const { acquire, clock } = arrange([{ name: 'a', loaded }])
    for (const variant of ['', small]) {
      const served = await acquire(variant)
      assert.equal(served.reason, 'warm')
      served[Symbol.dispose]()
    }
    const reloading = await acquire(large)
    assert.equal(reloading.reason, 'cold-load')
    reloading[Symbol.dispose]()
    await clock.advance(60_000)
    assert.equal((await acquire('')).reason, 'cold-load')
  })

  test('what was loaded is forgotten when the model leaves the memory', async () => {
    const { acquire, show, clock } = arrange([{ name: 'a' }])
    const first = await acquire(large)
    first[Symbol.dispose]()
    await clock.advance(60_000)
    show([{ name: 'a' }])
    show([{ name: 'a', loaded }])
    assert.equal((await acquire('')).reason, 'warm')
  })

  test('a runner in use is not taken for a variant that another node serves, until it has been idle for a while', async () => {
    const { acquire, clock, scheduler, barriers } = arrange([
      { name: 'a', loaded },
      { name: 'b', loaded, context: 8192 },
    ])
    const user = await acquire(large)
    user[Symbol.dispose]()
    await acquire('')
    const waiting = acquire('')
    assert.deepEqual([scheduler.summary().queued, barriers('')], [1, ['full', 'variant']])
    await clock.advance(10_000)
    scheduler.refresh()
    assert.deepEqual([(await waiting).node.name, (await waiting).reason], ['b', 'cold-load'])
  })
})
