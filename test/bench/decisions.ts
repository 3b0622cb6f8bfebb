import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { openPassage } from '../../lib/scheduler/gate.ts'
import { type Grant, Scheduler } from '../../lib/scheduler/scheduler.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { anAsk, aSnapshot } from '../support/fleet.ts'
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
 * What the scheduler takes to decide on one request, in microseconds, at p99: every slot of the fleet is taken, the
 * queue stays as long as it is, and each slot that comes back goes to whoever is first in line for it. One request's
 * waiting, the pass over the queue and the handing over of the slot are timed together.
 */
export async function decisionUs({ nodes, queued, decisions }: Situation): Promise<number> {
  const scheduler = crowdedScheduler(nodes)
  const running: Grant[] = []
  const waiting: Promise<Grant>[] = []
  const ask = (nth: number) =>
    scheduler.acquire(
      anAsk({ model: models[nth % models.length] ?? '', arrivedAt: performance.now() }),
      new AbortController().signal,
    )
  for (let nth = 0; nth < nodes * models.length; nth++) running.push(await ask(nth))
  for (let nth = 0; nth < queued; nth++) waiting.push(ask(nth))

  // Asks and slots go round the models in step: the slot that comes back is the one the first in line waits for.
  let nth = 0
  const decide = async () => {
    waiting.push(ask(queued + nth++))
    running.shift()?.[Symbol.dispose]()
    const grant = await waiting.shift()
    if (grant) running.push(grant)
  }
  const timings: number[] = []
  for (let decision = 0; decision < 2 * decisions; decision++) {
    const since = performance.now()
    await decide()
    timings.push((performance.now() - since) * 1000)
  }
  // Nobody is left waiting: their time limits would fire in the middle of a later measure.
  for (const grant of running) grant[Symbol.dispose]()
  await Promise.all(waiting)
  return percentile(timings.slice(decisions), 0.99)
}

/** Every node has every model, and one slot for each. */
function crowdedScheduler(nodes: number): Scheduler {
  const snapshot = new CurrentSnapshot()
  snapshot.swap(
    aSnapshot({
      nodes: Array.from({ length: nodes }, (_, index) => ({
        name: `node-${index}`,
        slots: 1,
        models,
        loaded: models,
      })),
    }),
  )
  return new Scheduler({ snapshot, gate: { passage: () => openPassage }, clock: new RealClock() })
}
