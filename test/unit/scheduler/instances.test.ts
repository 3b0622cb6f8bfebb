import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UsedElsewhere } from '../../../lib/cluster/membership/used-elsewhere.ts'
import type { LoadSummary } from '../../../lib/fleet/instance.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import type { SwapOrder } from '../../../lib/scheduler/fleet/loader.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { anAsk, aSnapshot } from '../../support/fleet.ts'
import { aScheduler } from '../../support/scheduler.ts'

const loadMs = 10_000
const publishMs = 1000

/** Two instances, of which the first leads, and two nodes with room for one model each; a load takes 10 s. */
function twoInstances() {
  const clock = new VirtualClock()
  const resident = new Map<string, string>()
  const swaps: string[] = []
  const seen = () =>
    aSnapshot({
      nodes: ['a', 'b'].map((name) => ({
        name,
        slots: 1,
        bytes: 15e9,
        max_loaded: 1,
        models: ['m:latest', 'n:latest'],
        loaded: [resident.get(name) ?? []].flat(),
      })),
    })
  const currents = [new CurrentSnapshot(), new CurrentSnapshot()]
  const swap = async ({ node, victims, model }: SwapOrder) => {
    swaps.push(`${node.name}: ${victims.join('+') || 'nothing'} for ${model}`)
    await clock.sleep(loadMs)
    resident.set(node.name, model)
    for (const current of currents) current.swap(seen())
    return { loadS: loadMs / 1000 }
  }
  let published: ReadonlyMap<string, LoadSummary> = new Map()
  const schedulers = currents.map((current, nth) => {
    const elsewhere = new UsedElsewhere({ loads: () => published, own: `${nth}`, clock })
    return aScheduler(seen(), {
      current,
      clock,
      loader: { swap },
      usedElsewhere: () => elsewhere.nodes(),
      leads: () => nth === 0,
    })
  })
  const ask = (nth: number, model: string) => {
    const grant = schedulers[nth]?.acquire(
      anAsk({ model, arrivedAt: clock.now() }),
      new AbortController().signal,
    )
    assert.ok(grant)
    return grant
  }
  return {
    swaps,
    ask,
    /** Sends a request, which is answered as soon as it starts. */
    serve: (nth: number, model: string) =>
      void ask(nth, model).then(
        (grant) => grant.end(null, 0),
        () => {},
      ),
    /** Advances the time; each second the instances learn what the other does. */
    pass: async (seconds: number) => {
      for (let second = 0; second < seconds; second++) {
        await clock.advance(publishMs)
        published = new Map(schedulers.map((scheduler, nth) => [`${nth}`, scheduler.summary()]))
      }
    },
  }
}

test('two instances with slow loads neither overwrite nor unload what the other loads', async () => {
  const { ask, serve, pass, swaps } = twoInstances()
  const first = ask(0, 'm:latest')
  await pass(2)
  const second = ask(1, 'n:latest')
  await pass(12)
  const grants = await Promise.all([first, second])
  assert.deepEqual(swaps, ['a: nothing for m:latest', 'b: nothing for n:latest'])
  for (let nth = 0; nth < 6; nth++) {
    serve(nth % 2, 'n:latest')
    serve((nth + 1) % 2, 'm:latest')
  }
  await pass(3)
  for (const grant of grants) grant.end(null, 0)
  await pass(3)
  assert.deepEqual(swaps.slice(2), [])
})
