import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import type { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'
import { eventually } from '../support/wire.ts'

const text = 'word '.repeat(30)
/** Of another there is no room beside one on a node. */
const models = ['a', 'b'].map((name) =>
  aModel({ name, sizeMiB: 1024, loadMs: 400, promptTps: 0, decodeTps: 100, text }),
)

/** An instance whose nodes each have room for one model, and have `a` in memory. */
async function fleet(count = 2) {
  const instance = await startInstance({ nodes: count, slots: 2, models })
  const { app, nodes } = instance
  await app.store.commit({
    when: [],
    apply: nodes.map(({ name, url }) => {
      const value = JSON.stringify({ url, slots: 2, max_loaded: 1 })
      return { type: 'put' as const, key: app.keys.node(name), value }
    }),
  })
  for (const { url } of nodes) await generate(url, 'a')
  const views = () => [...app.snapshot.get().nodes.values()]
  await eventually(() => views().every(({ resident }) => resident.has('a:latest')), 'a is seen everywhere')
  return {
    nodes,
    ask: (model: string) => generate(instance.url, model),
    /** Asked by the instance to load `b`, or to let go of `a`. */
    asked: (what: 'load' | 'unload') => {
      const told = (node: SimulatedNode) =>
        node.requests.some(({ rawHeaders, rawBody }) => {
          const unloads = /"keep_alive":0/.test(rawBody.toString())
          return rawHeaders.includes('llamero-load') && rawBody.length > 0 && unloads === (what === 'unload')
        })
      return nodes.find(told)
    },
    stop: () => app.stop(),
    queued: async () =>
      ((await (await fetch(`${instance.adminUrl}/admin/v1/queue`)).json()) as { waiting: object[] }).waiting,
    [Symbol.asyncDispose]: () => instance[Symbol.asyncDispose](),
  }
}

/** What came of a request, in a few words. */
async function generate(url: string, model: string): Promise<string> {
  const body = JSON.stringify({ model, stream: false, prompt: 'x' })
  const answer = await fetch(`${url}/api/generate`, { method: 'POST', body })
  const { done, error } = (await answer.json()) as { done?: boolean; error?: string }
  return done ? `${answer.status} whole` : `${answer.status} ${error}`
}

const whole = (count: number) => Array<string>(count).fill('200 whole')

// Most of it is waiting: they wait together.
suite('a node that is killed', { concurrency: true }, () => {
  for (const moment of ['unload', 'load'] as const)
    test(`during the ${moment} of a swap costs none of those that wait for it`, async () => {
      await using at = await fleet()
      const answers = Array.from({ length: 6 }, () => at.ask('b'))
      await eventually(() => at.asked(moment) !== undefined, `the ${moment} has begun`)
      void at.asked(moment)?.control.restart({ downMs: 1000 })
      assert.deepEqual(await Promise.all(answers), whole(6))
    })

  test('while evicted models drain costs running requests a retry, and waiting ones nothing', async () => {
    await using at = await fleet()
    const running = Array.from({ length: 4 }, () => at.ask('a'))
    await eventually(
      () => at.nodes.every((node) => node.stats().models['a:latest']?.inFlight === 2),
      'all are busy',
    )
    const waiting = Array.from({ length: 4 }, () => at.ask('b'))
    await until(async () => (await at.queued()).length === 4, 'four wait', 5000)
    void at.nodes[0]?.control.restart({ downMs: 1000 })
    assert.deepEqual(await Promise.all([...running, ...waiting]), whole(8))
  })

  test('and comes back empty at once serves as before', async () => {
    await using at = await fleet(1)
    assert.equal(await at.ask('a'), '200 whole')
    await at.nodes[0]?.control.restart({ downMs: 0 })
    assert.deepEqual(await Promise.all([at.ask('a'), at.ask('b')]), whole(2))
  })
})

test('an instance that stops in the middle of a swap asks its node for nothing more', async () => {
  await using at = await fleet(1)
  const answer = at.ask('b')
  await eventually(() => at.asked('unload') !== undefined, 'the unload has begun')
  await at.stop()
  assert.match(await answer, /^503 this instance is shutting down/)
  // Until the load would have begun.
  await sleep(2000)
  assert.equal(at.asked('load'), undefined)
})

test('a request that waits for a hanging load is served by another node', async () => {
  await using at = await fleet()
  // Only the load names it in full.
  const times = { left: 1 }
  for (const { control } of at.nodes) control.blackhole({ match: { model: 'b:latest' }, times })
  const startedAt = performance.now()
  assert.deepEqual(await Promise.all([at.ask('b'), at.ask('b')]), whole(2))
  assert.equal(times.left, 0)
  assert(performance.now() - startedAt < 10_000, 'the load has 300 s')
})

test('loads by a foreign client on a node lose no request, and the other models come back', async () => {
  await using at = await fleet()
  for (let round = 0; round < 3; round++) {
    const foreign = at.nodes.map(({ url }) => generate(url, 'b'))
    const ours = ['a', 'b', 'a'].map((model) => at.ask(model))
    assert.deepEqual(await Promise.all([...foreign, ...ours]), whole(5))
  }
})
