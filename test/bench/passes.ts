import type { Grant } from '../../lib/scheduler/queue/grant.ts'
import type { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { anAsk, aSnapshot } from '../support/fleet.ts'
import { aScheduler } from '../support/scheduler.ts'
import { percentile } from './statistics.ts'

interface Situation {
  readonly nodes: number
  readonly queued: number
  /** That count; as many before them are for the compiler. */
  readonly decisions: number
}

/** More than one, so that the queue is no row of equals. */
const models = Array.from({ length: 10 }, (_, index) => `model-${index}:latest`)

/**
 * What the scheduler takes for one pass over the queue, in microseconds, at p99: every slot of the fleet is taken, the
 * queue stays as long as it is, and each freed slot goes to a request in it. One request's
 * waiting, the pass over the queue and the handing over of the slot are timed together.
 */
export async function passUs({ nodes, queued, decisions }: Situation): Promise<number> {
  const scheduler = crowdedScheduler(nodes)
  const running: Grant[] = []
  let handed = Promise.withResolvers<void>()
  const ask = async (nth: number) => {
    const model = models[nth % models.length] ?? ''
    const signal = new AbortController().signal
    running.push(
      await scheduler.acquire(anAsk({ id: String(nth), model, arrivedAt: performance.now() }), signal),
    )
    handed.resolve()
  }
  let nth = 0
  const waiting = Array.from({ length: nodes * models.length + queued }, () => ask(nth++))
  await new Promise((resolve) => setImmediate(resolve))

  const decide = async () => {
    waiting.push(ask(nth++))
    handed = Promise.withResolvers()
    running.shift()?.[Symbol.dispose]()
    await handed.promise
  }
  const timings: number[] = []
  for (let decision = 0; decision < 2 * decisions; decision++) {
    const since = performance.now()
    await decide()
    timings.push((performance.now() - since) * 1000)
  }
  // The queue is emptied: pending time limits would fire during a later measurement.
  while (running.length > 0) {
    for (const grant of running.splice(0)) grant[Symbol.dispose]()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(waiting)
  return percentile(timings.slice(decisions), 0.99)
}

/** Every node has every model, and one slot for each. */
function crowdedScheduler(nodes: number): Scheduler {
  return aScheduler(
    aSnapshot({
      nodes: Array.from({ length: nodes }, (_, index) => ({
        name: `node-${index}`,
        slots: 1,
        bytes: 5e9,
        models,
        loaded: models,
      })),
      config: { queue: { max_wait: '1h', max_length: 100_000 } },
    }),
  )
}
