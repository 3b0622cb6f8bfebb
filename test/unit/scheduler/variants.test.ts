import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { contextVariant } from '../../../lib/fleet/models/variant.ts'
import type { RequestSpec } from '../../../lib/fleet/request-spec.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import { type AvailabilityBarrier, alwaysAvailable } from '../../../lib/scheduler/fleet/availability.ts'
import type { SwapOrder } from '../../../lib/scheduler/fleet/loader.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

type Nodes = NonNullable<NonNullable<Parameters<typeof aSnapshot>[0]>['nodes']>

interface Company {
  readonly elsewhere?: Record<string, 'runs' | 'loads'>
  readonly leads?: boolean
  readonly barrierOf?: (node: string) => AvailabilityBarrier | null
  /** Nodes whose loads never end. */
  readonly hangs?: string
}

function arrange(
  nodes: Nodes,
  { elsewhere = {}, leads = true, barrierOf = () => null, hangs }: Company = {},
) {
  const current = new CurrentSnapshot()
  const clock = new VirtualClock()
  const swaps: string[] = []
  const used = { uses: new Map(Object.entries(elsewhere)), holds: new Map() }
  const swap = async ({ node, victims, model, variant }: SwapOrder) => {
    swaps.push(`${node.name}: ${victims.join('+') || 'nothing'} for ${model} ${variant}`)
    return node.name === hangs ? new Promise<never>(() => {}) : { loadS: 1 }
  }
  const scheduler = aScheduler(aSnapshot({ nodes }), {
    current,
    clock,
    loader: { swap },
    usedElsewhere: () => used,
    leads: () => leads,
    upstreams: { availabilityOf: (name) => ({ ...alwaysAvailable, barrier: barrierOf(name) }) },
  })
  const acquire = (variant: string, ask: Partial<RequestSpec> = {}) =>
    scheduler.acquire(anAsk({ arrivedAt: clock.now(), variant, ...ask }), new AbortController().signal)
  return {
    clock,
    scheduler,
    acquire,
    swaps,
    show: (shown: Nodes) => current.swap(aSnapshot({ nodes: shown })),
  }
}

const large = contextVariant(8192)
const small = contextVariant(4096)
const loaded = ['m:latest']

suite('variants', () => {
  test('another variant than the busy one is loaded once the requests of that have ended; no new ones start before', async () => {
    const { acquire, swaps, clock, scheduler } = arrange([{ name: 'a', slots: 4, loaded }])
    const holder = await acquire('')
    const waiting = acquire(large)
    await clock.advance(0)
    const late = acquire('')
    await clock.advance(0)
    assert.deepEqual([scheduler.summary().queued, swaps], [2, []])
    holder[Symbol.dispose]()
    const served = await waiting
    assert.deepEqual([served.reason, swaps], ['cold-load', [`a: m:latest for m:latest ${large}`]])
    served[Symbol.dispose]()
    assert.equal((await late).reason, 'cold-load')
  })

  test('a request for another variant than the busy one goes to a node where nothing is in the way', async () => {
    const { acquire, swaps } = arrange([
      { name: 'a', slots: 4, loaded },
      { name: 'b', slots: 4 },
    ])
    await acquire('')
    const elsewhere = await acquire(large)
    assert.deepEqual([elsewhere.node.name, elsewhere.reason], ['b', 'cold-load'])
    assert.deepEqual(swaps, [`b: nothing for m:latest ${large}`])
  })

  test('a node with the variant in memory is preferred to one without the model', async () => {
    const { acquire } = arrange([
      { name: 'empty', weight: 5 },
      { name: 'same', loaded, context: 8192 },
    ])
    const { node, reason } = await acquire(large)
    assert.deepEqual([node.name, reason], ['same', 'warm'])
  })

  test('a runner with the default context serves requests for exactly that context; one that we loaded with a context does not serve requests without one', async () => {
    const { acquire, clock } = arrange([{ name: 'a', loaded }])
    for (const variant of ['', small]) {
      const served = await acquire(variant)
      assert.equal(served.reason, 'warm')
      served[Symbol.dispose]()
    }
    const reloading = await acquire(large)
    assert.equal(reloading.reason, 'cold-load')
    reloading[Symbol.dispose]()
    await clock.advance(1000)
    assert.equal((await acquire('')).reason, 'cold-load')
  })

  test('the options of a load are forgotten when the model leaves the memory', async () => {
    const { acquire, show, clock } = arrange([{ name: 'a' }])
    const first = await acquire(large)
    first[Symbol.dispose]()
    await clock.advance(60_000)
    show([{ name: 'a' }])
    await clock.advance(0)
    show([{ name: 'a', loaded }])
    assert.equal((await acquire('')).reason, 'warm')
  })

  test('models that other instances may be using are never unloaded', async () => {
    const nodes = [{ name: 'a', loaded, models: ['m:latest', 'n:latest'], max_loaded: 1 }]
    const alone = arrange(nodes)
    await alone.acquire('', { model: 'n:latest' })
    assert.deepEqual(alone.swaps, ['a: m:latest for n:latest '])

    for (const use of ['runs', 'loads'] as const) {
      const shared = arrange(nodes, { elsewhere: { a: use } })
      const waiting = shared.acquire('', { model: 'n:latest' })
      waiting.catch(() => {})
      await shared.clock.advance(5000)
      assert.deepEqual([shared.scheduler.summary().queued, shared.swaps], [1, []])
    }
  })

  test('no load is requested on a node where another instance is loading', async () => {
    const { acquire, swaps } = arrange([{ name: 'a' }, { name: 'b' }], { elsewhere: { a: 'loads' } })
    assert.equal((await acquire('')).node.name, 'b')
    assert.deepEqual(swaps, ['b: nothing for m:latest '])
  })

  test('only the leader unloads a model for a replica of another; for a model that is nowhere in memory, each instance does', async () => {
    const models = ['m:latest', 'n:latest']
    const nodes = [
      { name: 'a', slots: 1, bytes: 5e9, loaded, models, max_loaded: 1 },
      { name: 'b', slots: 1, bytes: 5e9, loaded: ['n:latest'], models, max_loaded: 1 },
    ]
    for (const leads of [true, false]) {
      const { acquire, swaps, clock } = arrange(nodes, { leads })
      for (let nth = 0; nth < 4; nth++) acquire('').catch(() => {})
      await clock.advance(0)
      assert.deepEqual(swaps, leads ? ['b: n:latest for m:latest '] : [])
    }
    const { acquire, swaps } = arrange(nodes.slice(0, 1), { leads: false })
    await acquire('', { model: 'n:latest' })
    assert.deepEqual(swaps, ['a: m:latest for n:latest '])
  })

  const models = ['m:latest', 'n:latest']
  const node = { slots: 1, bytes: 5e9, models, max_loaded: 1 }
  const holder = { ...node, name: 'a', loaded }
  const other = { ...node, name: 'b', loaded: ['n:latest'] }
  const useless: readonly (readonly [why: string, node: Nodes[number], ask: Partial<RequestSpec>])[] = [
    ['is cordoned', { ...holder, state: 'cordoned' }, {}],
    ['has no weight', { ...holder, weight: 0 }, {}],
    ['is advised down', { ...holder, health: 'down' }, {}],
    ['lacks a label that the request asks for', holder, { labels: { pool: 'x' } }],
    ['has failed the request', holder, { tried: new Set(['a']) }],
  ]
  for (const [why, unusable, ask] of useless)
    for (const leads of [true, false])
      test(`${leads ? 'the leader' : 'a standby'} makes room for a model that is only in memory on a node that ${why} (361)`, async () => {
        const nodes = [unusable, { ...other, labels: { pool: 'x' } }]
        const { acquire, swaps } = arrange(nodes, { leads })
        const grant = await acquire('', ask)
        assert.equal(grant.node.name, 'b')
        assert.deepEqual(swaps, ['b: n:latest for m:latest '])
      })

  test('a standby makes room when the breaker of the only node with the model is open (361)', async () => {
    const { acquire, swaps } = arrange([holder, other, { ...other, name: 'c' }], {
      leads: false,
      barrierOf: (name) => (name === 'a' ? 'refused' : null),
    })
    assert.notEqual((await acquire('')).node.name, 'a')
    assert.equal(swaps.length, 1)
  })

  test('other requests for the model wait for the load of a standby (361)', async () => {
    const cordoned = { ...holder, state: 'cordoned' } as const
    const { acquire, swaps, clock } = arrange([cordoned, other, { ...other, name: 'c' }], { leads: false })
    for (let nth = 0; nth < 4; nth++) acquire('').catch(() => {})
    await clock.advance(0)
    assert.equal(swaps.length, 1)
  })

  test('a standby makes room when the load of the model on another node hangs (305)', async () => {
    const empty = { ...node, name: 'a', loaded: [] }
    const { acquire, swaps, clock } = arrange([empty, other], { leads: false, hangs: 'a' })
    const granted = acquire('')
    await clock.advance(10_000)
    assert.deepEqual(swaps, ['a: nothing for m:latest '])
    await clock.advance(20_000)
    assert.deepEqual(swaps.slice(1), ['b: n:latest for m:latest '])
    assert.equal((await granted).node.name, 'b')
  })

  test('a standby makes no room on a node that another instance uses (361)', async () => {
    const cordoned = { ...holder, state: 'cordoned' } as const
    const { acquire, swaps, clock } = arrange([cordoned, other], { leads: false, elsewhere: { b: 'runs' } })
    acquire('').catch(() => {})
    await clock.advance(0)
    assert.deepEqual(swaps, [])
  })
})
