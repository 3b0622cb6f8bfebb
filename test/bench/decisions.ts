import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { type Grant, Scheduler } from '../../lib/scheduler/scheduler.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { anAsk, aSnapshot } from '../support/fleet.ts'
import { percentile } from './statistics.ts'

interface Situation {
  readonly nodes: number
  readonly queued: number
  /** Samples taken. */
  readonly samples: number
}

/** More than one, so that the queue is no row of equals. */
const models = Array.from({ length: 10 }, (_, index) => `model-${index}:latest`)
/** A sample is the mean over this many decisions: the cost of a request, not of its luck with the garbage collector. */
const decisionsPerSample = 10

/**
 * What the scheduler takes to decide on one request, in microseconds, at p99 of the samples: every slot of the fleet is
 * taken, the queue stays as long as it is, and each slot that comes back goes to whoever is first in line for it.
 */
export async function decisionUs({ nodes, queued, samples }: Situation): Promise<number> {
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
  for (let sample = 0; sample < samples; sample++) {
    const since = performance.now()
    for (let each = 0; each < decisionsPerSample; each++) await decide()
    timings.push(((performance.now() - since) * 1000) / decisionsPerSample)
  }
  return percentile(timings, 0.99)
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
  return new Scheduler({ snapshot, gate: { admits: () => true }, clock: new RealClock() })
}
