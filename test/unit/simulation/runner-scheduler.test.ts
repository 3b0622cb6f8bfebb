import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { ModelRunner } from '../../../lib/simulation/ollama-model/model-runner.ts'
import {
  type RunnerRequest,
  RunnerScheduler,
  type RunnerSchedulerOptions,
} from '../../../lib/simulation/ollama-model/runner-scheduler.ts'

interface Asked extends RunnerRequest {
  left: boolean
  runner: ModelRunner | null
}

/** The model on a virtual clock: memory for 10, every model takes 6 and loads in 100. */
function aScheduler(options: Partial<RunnerSchedulerOptions> = {}) {
  const clock = new VirtualClock()
  const happened: string[] = []
  const scheduler = new RunnerScheduler<Asked, ModelRunner>(
    {
      clock,
      memory: 10,
      heldMemory: 0,
      mostLoaded: 3,
      mostPending: 9,
      recoveryTime: 10,
      countsUnloading: false,
      ...options,
    },
    {
      serves: () => true,
      fits: (_, free) => free >= 6,
      memoryFor: (_, free) => Math.min(6, free),
      loadTime: () => 100,
      start: ({ key }, memory, onExpired) =>
        new ModelRunner({ clock, key, name: key, memory, keepAlive: 1000, onExpired }),
      onReady: (request, runner) => {
        request.runner = runner
      },
      onEvent: (event) => {
        const model = event.type === 'unloaded' ? event.runner.name : event.request.key
        happened.push(`${clock.now()} ${event.type} ${model}`)
      },
    },
  )
  function ask(key: string): Asked {
    const request: Asked = { key, keepAlive: null, left: false, runner: null }
    if (!scheduler.serveLoaded(request)) scheduler.enqueue(request)
    return request
  }
  function leave(request: Asked): void {
    request.left = true
    scheduler.giveUp(request)
  }
  return { clock, scheduler, happened, ask, leave }
}

test('a request that leaves while it waits for an eviction blocks the queue until the victim is gone', async () => {
  const { clock, happened, ask, leave } = aScheduler()
  const busy = ask('a')
  await clock.advance(100)
  const gone = ask('b')
  const next = ask('c')
  leave(gone)
  await clock.advance(50)
  assert.deepEqual(happened.slice(3), ['100 queued b', '100 evicting b', '100 queued c'])
  busy.runner?.leave()
  await clock.advance(200)
  assert.deepEqual(happened.slice(6), ['160 unloaded a', '160 loading c', '260 loaded c'])
  assert.equal(gone.runner, null)
  assert.equal(next.runner?.name, 'c')
})

test('the only model loads into the memory that is left, unless a runner counts until its memory is back', async () => {
  const loaded = async (countsUnloading: boolean) => {
    const { clock, scheduler, happened, ask } = aScheduler({ countsUnloading })
    ask('a')
    await clock.advance(100)
    scheduler.runners[0]?.leave()
    scheduler.unload('a')
    const { key } = ask('b')
    await clock.advance(200)
    return [happened.find((line) => line.endsWith(`loading ${key}`)), scheduler.runners[0]?.memory]
  }
  assert.deepEqual(await loaded(false), ['100 loading b', 4])
  assert.deepEqual(await loaded(true), ['110 loading b', 6])
})

test('when all runners crash, their memory is free once and the waiting head loads', async () => {
  const { clock, scheduler, happened, ask } = aScheduler({ memory: 12 })
  const both = [ask('a'), ask('b')]
  await clock.advance(200)
  ask('c')
  scheduler.crash()
  assert.equal(scheduler.usedMemory, 6, 'the load of c')
  assert.deepEqual(happened.slice(-3), ['200 unloaded a', '200 unloaded b', '200 loading c'])
  for (const { runner } of both) assert.equal(runner?.crashed, true)
  await clock.advance(100)
  assert.deepEqual(
    scheduler.runners.map(({ name }) => name),
    ['c'],
  )
})

test('a scheduler that stops wastes its load and starts none of the queued ones', async () => {
  const { clock, scheduler, happened, ask } = aScheduler()
  const asked = [ask('a'), ask('b')]
  await clock.advance(50)
  scheduler.stop()
  scheduler.stop()
  await clock.advance(1000)
  assert.equal(happened.at(-1), '50 load-wasted a')
  assert.deepEqual(
    asked.map(({ runner }) => runner),
    [null, null],
  )
  assert.equal(scheduler.usedMemory, 0)
})
