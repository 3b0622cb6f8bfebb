import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { LoadError, type SwapOrder, type Swapped } from '../../../lib/scheduler/fleet/loader.ts'
import { Loads } from '../../../lib/scheduler/fleet/loads.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aSnapshot } from '../../support/fleet.ts'

class Busy extends LoadError {
  readonly isBusy = true
}

const { nodes } = aSnapshot({ nodes: [{ name: 'a' }] })

/** One load on node a, expected to take 10 s by default; the test ends it. */
function begin(expectedS = 10) {
  const clock = new VirtualClock()
  const warnings: unknown[] = []
  const told: object[] = []
  const end = Promise.withResolvers<Swapped>()
  const loads = new Loads({
    loader: { swap: () => end.promise },
    clock,
    log: { warn: (message, fields) => void warnings.push({ message, ...fields }) },
    tell: (event) => void told.push(event),
    failed: () => {},
  })
  const [node] = nodes.values()
  assert.ok(node)
  const order: SwapOrder = { node, victims: [], model: 'm:latest', variant: '', api: 'ollama_chat' }
  void loads.begin(order, expectedS)
  const of = (message: string, seconds: number, rest = {}) => ({
    message,
    node: 'a',
    model: 'm:latest',
    seconds,
    ...rest,
  })
  return { clock, warnings, told, end, loads, of }
}

suite('the log of model loads', () => {
  test('warns that a load hangs: once, after a minute', async () => {
    const { clock, warnings, end, of } = begin()
    await clock.advance(59_000)
    assert.deepEqual(warnings, [])
    await clock.advance(241_000)
    assert.deepEqual(warnings, [of('a model load hangs: look at the log of Ollama there', 60)])
    end.resolve({ loadS: 300 })
    await clock.advance(300_000)
    assert.equal(warnings.length, 1)
  })

  test('does not warn of a long load before it takes three times its expected duration', async () => {
    const { clock, warnings, of } = begin(100)
    await clock.advance(299_000)
    assert.deepEqual(warnings, [])
    await clock.advance(1000)
    assert.deepEqual(warnings, [of('a model load hangs: look at the log of Ollama there', 300)])
  })

  test('says that a load failed, why, and after how long', async () => {
    const { clock, warnings, end, of } = begin()
    await clock.advance(12_000)
    end.reject(new Error('out of memory'))
    await clock.advance(0)
    assert.deepEqual(warnings, [of('a model load failed', 12, { reason: 'out of memory' })])
  })

  test('says that the victims were not unloaded', async () => {
    const { clock, warnings, told, end, of } = begin()
    await clock.advance(10_000)
    end.resolve({ kept: ['n:latest'] })
    await clock.advance(0)
    assert.deepEqual(warnings, [of('models were not unloaded in time', 10, { kept: ['n:latest'] })])
    assert.deepEqual(told, [
      { type: 'swapped', node: 'a', model: 'm:latest', ok: false, loadS: 0, kept: ['n:latest'] },
    ])
  })

  for (const [what, error] of [
    ['its node put it off', new Busy()],
    ['this instance stops', new ProxyError('shutting_down')],
  ] as const)
    test(`is silent when ${what}`, async () => {
      const { clock, warnings, told, end } = begin()
      end.reject(error)
      await clock.advance(100_000)
      assert.deepEqual(warnings, [])
      assert.equal(told.length, 1)
    })
})

test('the error of a load is kept until a load succeeds, or its node leaves the fleet', async () => {
  const { clock, loads, end } = begin()
  const error = new Error('out of memory')
  end.reject(error)
  await clock.advance(0)
  loads.keepOnly(nodes)
  assert.equal(loads.failure('a', 'm:latest'), error)
  loads.keepOnly(new Map())
  assert.equal(loads.failure('a', 'm:latest'), undefined)
})
