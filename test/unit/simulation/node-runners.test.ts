import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aModel, type ModelDefinition } from '../../../lib/simulation/http/disk/model-definition.ts'
import { fingerprintOf } from '../../../lib/simulation/http/engine/fingerprint.ts'
import {
  NodeRunners,
  type NodeRunnersOptions,
  type RunnerLease,
} from '../../../lib/simulation/http/engine/node-runners.ts'
import { type EventType, Ledger } from '../../../lib/simulation/http/ledger.ts'
import { Refusal } from '../../../lib/simulation/http/refusal.ts'

const gpu = { id: 'g0', totalMiB: 24_576, discrete: true }

/** A scheduler on a virtual clock, and short ways to use it. */
function aScheduler(options: Partial<NodeRunnersOptions> = {}) {
  const clock = new VirtualClock()
  const ledger = new Ledger(clock)
  const scheduler = new NodeRunners({
    clock,
    ledger,
    gpus: [gpu],
    numParallel: 1,
    maxLoadedModels: 0,
    maxQueue: 512,
    keepAliveMs: 300_000,
    heldMiB: 0,
    ...options,
  })
  let request = 0
  function acquire(
    model: ModelDefinition,
    {
      signal = new AbortController().signal,
      keepAliveMs = null,
      ...wish
    }: { signal?: AbortSignal; keepAliveMs?: number | null; options?: Record<string, unknown> } = {},
  ): Promise<RunnerLease> {
    const fingerprint = fingerprintOf(wish.options ?? {}, true)
    return scheduler.acquire({
      model,
      fingerprint,
      keepAliveMs,
      signal,
      request: request++,
      refuseQueue: false,
    })
  }
  /** Acquires and ends at once, moving the clock as far as that takes. */
  async function visit(model: ModelDefinition, wish: Parameters<typeof acquire>[1] = {}): Promise<void> {
    const grant = acquire(model, wish)
    await clock.advance(10_000)
    const granted = await grant
    granted[Symbol.dispose]()
    await clock.advance(0)
  }
  const times = (type: EventType) => ledger.events.filter((event) => event.type === type).map(({ t }) => t)
  return { clock, ledger, scheduler, acquire, visit, times }
}

/** Two of these fit on the card alone, never together. */
const big = aModel({ name: 'big', sizeMiB: 14_000, kvMiBPer1kCtx: 1, loadMs: 1000 })
const rival = aModel({ name: 'rival', sizeMiB: 14_000, kvMiBPer1kCtx: 1, loadMs: 1000, digest: 'rival' })
const small = aModel({ name: 'small', sizeMiB: 100, kvMiBPer1kCtx: 1, loadMs: 100 })

test('four wait for a load in progress, the rest get 503, and a ready model passes at once', async () => {
  const { clock, acquire, visit, ledger } = aScheduler({ maxQueue: 4, maxLoadedModels: 10 })
  const others = Array.from({ length: 6 }, (_, i) => aModel({ name: `other${i}`, sizeMiB: 50, loadMs: 1000 }))
  await visit(small)
  const loading = acquire(aModel({ name: 'loading', sizeMiB: 60, loadMs: 1000 }))
  await clock.advance(10)

  const arrivals = others.map((model) => acquire(model).then(() => 'served', refusalOf))
  const passing = await acquire(small)
  passing[Symbol.dispose]()
  await clock.advance(10_000)
  await loading

  const busy = '503 server busy, please try again.  maximum pending requests exceeded'
  assert.deepEqual((await Promise.all(arrivals)).toSorted(), [
    busy,
    busy,
    'served',
    'served',
    'served',
    'served',
  ])
  assert.equal(ledger.stats().maxPending, 4)
})

test('a request whose client left keeps its place in the queue until it is popped', async () => {
  const { clock, acquire } = aScheduler({ maxQueue: 1 })
  const leaving = new AbortController()
  const loading = acquire(big)
  await clock.advance(10)
  const left = acquire(small, { signal: leaving.signal }).catch(() => 'left')
  leaving.abort(new Error('gone'))
  assert.equal(await left, 'left')
  assert.match(await acquire(small).then(String, refusalOf), /^503 /)
  await clock.advance(10_000)
  await loading
  const later = acquire(small)
  await clock.advance(10_000)
  assert.equal((await later).runner.shape.model.name, 'small:latest')
})

test('the context decides over a reload: explicit and default differ, automatic and the same number do not', async () => {
  const reloads = async (...contexts: (number | undefined)[]) => {
    const { visit, ledger } = aScheduler()
    for (const num_ctx of contexts) await visit(small, { options: { num_ctx } })
    return ledger.stats().reloads
  }
  assert.equal(await reloads(8192, undefined, 8192), 2)
  assert.equal(await reloads(undefined, undefined), 0)
  assert.equal(await reloads(undefined, 32_768), 0, 'the default of a 24 GiB card')
  assert.equal(await reloads(999_999, 131_072), 0, 'clipped to what the model was trained for')
})

test('other load-time options reload, options of one request do not, and num_gpu -1 matches anything', async () => {
  const reloads = async (...requests: Record<string, unknown>[]) => {
    const { visit, ledger } = aScheduler()
    for (const options of requests) await visit(small, { options })
    return ledger.stats().reloads
  }
  assert.equal(await reloads({ num_batch: 256 }, {}), 1)
  assert.equal(await reloads({ num_thread: 4 }, {}), 1)
  assert.equal(await reloads({ num_gpu: 10 }, { num_gpu: 20 }), 1)
  assert.equal(await reloads({ num_gpu: 10 }, { num_gpu: -1 }, {}), 0)
  assert.equal(await reloads({ temperature: 1, seed: 3 }, { top_k: 1, num_predict: 5 }), 0)
})

test('two models that do not fit together evict each other, and wait for the VRAM to come back', async () => {
  const { visit, ledger, times } = aScheduler()
  for (const model of [big, rival, big, rival]) await visit(model)
  assert.equal(ledger.stats().evictions, 3)
  const unloads = times('unload')
  times('evict').forEach((evictedAt, i) => {
    assert.equal(unloads[i], evictedAt + 800)
  })
  const durations = times('load-end').map((endedAt, i) => endedAt - times('load-start')[i]!)
  assert.deepEqual(
    durations.map(Math.round),
    [1000, 1000, 350, 350],
    'the second load is from the page cache',
  )
})

test('a GPU that is not discrete gives its memory back at once', async () => {
  const { visit, times } = aScheduler({ gpus: [{ ...gpu, discrete: false }] })
  for (const model of [big, rival]) await visit(model)
  assert.deepEqual(times('unload'), times('evict'))
})

test('a busy victim holds up the whole queue until its request ends', async () => {
  const { clock, acquire, times } = aScheduler()
  const held = acquire(big)
  await clock.advance(2000)
  const blocked = acquire(rival)
  const behind = acquire(small)
  await clock.advance(30_000)
  assert.equal(times('load-start').length, 1)
  const grant = await held
  grant[Symbol.dispose]()
  await clock.advance(10_000)
  await Promise.all([blocked, behind])
  assert.deepEqual(times('load-start'), [0, 32_800, 33_800])
})

test('the victim is an idle runner, even when a busy one has the shorter keep-alive', async () => {
  const { clock, acquire, visit, scheduler } = aScheduler({ maxLoadedModels: 2 })
  const held = acquire(small, { keepAliveMs: 1000 })
  await clock.advance(1000)
  await visit(big, { keepAliveMs: 600_000 })
  await visit(aModel({ name: 'third', sizeMiB: 50, loadMs: 10 }))
  assert.deepEqual(
    scheduler.loaded.map(({ shape }) => shape.model.name),
    ['small:latest', 'third:latest'],
  )
  const grant = await held
  grant[Symbol.dispose]()
})

test('a request with a keep-alive brings a marked victim back, and the load behind it waits on', async () => {
  const { clock, acquire, times } = aScheduler()
  const held = acquire(big)
  await clock.advance(2000)
  const blocked = acquire(rival)
  await clock.advance(10)
  const resurrecting = await acquire(big, { keepAliveMs: 60_000 })
  for (const grant of [await held, resurrecting]) grant[Symbol.dispose]()
  await clock.advance(59_000)
  assert.deepEqual(times('unload'), [])
  await clock.advance(10_000)
  await blocked
  assert.deepEqual(times('unload'), [2010 + 60_000 + 800])
})

test('the most models loaded is three for each card, unless it is set', async () => {
  const models = [1, 2, 3, 4].map((i) => aModel({ name: `m${i}`, sizeMiB: 10 + i, loadMs: 10 }))
  for (const [maxLoadedModels, evictions] of [
    [0, 1],
    [2, 2],
    [4, 0],
  ] as const) {
    const { visit, ledger } = aScheduler({ maxLoadedModels })
    for (const model of models) await visit(model)
    assert.equal(ledger.stats().evictions, evictions)
  }
})

test('a node without a card loads until it has three models, none of them in VRAM', async () => {
  const { visit, scheduler } = aScheduler({ gpus: [] })
  for (const model of [big, rival, small]) await visit(model)
  assert.deepEqual(
    scheduler.loaded.map(({ shape }) => [shape.ctx, shape.vramMiB]),
    [
      [4096, 0],
      [4096, 0],
      [4096, 0],
    ],
  )
})

test('the first model is loaded even when it does not fit, and runs slower for it', async () => {
  const { visit, scheduler } = aScheduler({ gpus: [{ ...gpu, totalMiB: 10_000 }] })
  await visit(aModel({ name: 'huge', sizeMiB: 20_000, kvMiBPer1kCtx: 0, cpuFactor: 9 }))
  const [runner] = scheduler.loaded
  assert.equal(runner?.shape.vramMiB, 10_000)
  assert.equal(runner?.slowdown, 5)
})

test('a client that leaves during a load wastes it, and the next waiter starts from zero', async () => {
  const { clock, acquire, ledger, times } = aScheduler()
  const impatient = new AbortController()
  const first = acquire(big, { signal: impatient.signal }).catch(() => 'left')
  const second = acquire(big)
  await clock.advance(900)
  impatient.abort(new Error('gone'))
  assert.equal(await first, 'left')
  await clock.advance(10_000)
  assert.equal((await second).runner.slowdown, 1, 'the memory of the lost load is free again')
  assert.equal(ledger.stats().wastedLoads, 1)
  assert.deepEqual(times('load-start'), [0, 900])
  assert.deepEqual(times('load-end'), [1900])
})

test('a keep-alive sticks to the runner until another request changes it', async () => {
  const { clock, visit, scheduler } = aScheduler({ keepAliveMs: 60_000 })
  const remaining = () => scheduler.loaded.map(({ expiresAt }) => expiresAt - clock.now())
  const step = async (keepAliveMs: number | null) => {
    const arrivedAt = clock.now()
    await visit(small, { keepAliveMs })
    return remaining().map((ms) => ms + clock.now() - arrivedAt - 10_000)
  }
  assert.deepEqual(await step(null), [60_000], 'the node has a default')
  assert.deepEqual(await step(120_000), [120_000])
  assert.deepEqual(await step(null), [120_000])
  assert.deepEqual(await step(Number.POSITIVE_INFINITY), [Number.POSITIVE_INFINITY])
  assert.equal(clock.nextTimerAt(), null, 'for ever needs no timer')
  assert.deepEqual(await step(0), [])
})

test('a runner leaves when its keep-alive is over, counted from the end of its last request', async () => {
  const { clock, acquire, times, scheduler } = aScheduler({ keepAliveMs: 5000 })
  const grant = acquire(small)
  await clock.advance(60_000)
  assert.equal(scheduler.loaded.length, 1)
  const granted = await grant
  granted[Symbol.dispose]()
  await clock.advance(4999)
  assert.equal(scheduler.loaded.length, 1)
  await clock.advance(1)
  assert.equal(scheduler.loaded.length, 0)
  await clock.advance(800)
  assert.deepEqual(times('unload'), [65_800])
})

test('a keep-alive longer than a timer can count does not end at once', async () => {
  const { clock, visit, scheduler } = aScheduler()
  await visit(small, { keepAliveMs: 1000 * 3600 * 1000 })
  await clock.advance(60_000)
  assert.equal(scheduler.loaded.length, 1)
})

async function refusalOf(error: unknown): Promise<string> {
  assert.ok(error instanceof Refusal)
  return `${error.status} ${error.message}`
}
