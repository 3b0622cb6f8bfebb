import { Core } from '../../lib/scheduler/core.ts'
import type { Effect, NodeFacts } from '../../lib/scheduler/events.ts'
import { aResident, aWork, someParameters, someTimings } from '../support/core.ts'
import { percentile } from './statistics.ts'

interface Situation {
  readonly nodes: number
  readonly queued: number
  /** That count; as many before them are for the compiler. */
  readonly decisions: number
}

/** More than one, so that the queue is no row of equals. */
const models = Array.from({ length: 10 }, (_, index) => `model-${index}:latest`)
/** Each node has so many of them in memory. */
const loaded = 3

/**
 * What the core takes to decide on one request, in microseconds, at p99: every slot is taken, the queue stays as long as
 * it is, and models are spread unevenly. One request's arrival, another's end with all that is learned from it, and the
 * pass over the queue are timed together.
 */
export function coreDecisionUs({ nodes, queued, decisions }: Situation): number {
  let now = 0
  const core = new Core({ policy: 'earliest-finish', parameters: patient, dice: Math.random })
  core.take({ type: 'fleet', nodes: crowdedFleet(nodes) }, now)
  const running: string[] = []
  let nth = 0
  const arrive = () => core.take({ type: 'arrived', work: workOf(nth++, now) }, now)
  const settle = (effects: readonly Effect[]) => {
    for (const effect of effects) if (effect.type === 'start') running.push(effect.id)
  }
  for (let idle = 2 * nodes * loaded; idle > 0; idle--) {
    arrive()
    settle(core.pass(now))
  }
  while (core.queued().length < queued) {
    arrive()
    settle(core.pass(now))
  }

  const decide = () => {
    arrive()
    const id = running.shift()
    if (id) core.take({ type: 'ended', id, timings: someTimings() }, now)
    settle(core.pass(now))
  }
  const timings: number[] = []
  for (let decision = 0; decision < 2 * decisions; decision++) {
    now += 0.001
    const since = performance.now()
    decide()
    timings.push((performance.now() - since) * 1000)
  }
  return percentile(timings.slice(decisions), 0.99)
}

/** Nobody is refused: the queue is to be as long as it is. */
const patient = someParameters({
  admission: { maxQueued: 1e9, tenantS: 1e9, maxWaitS: 1e9, leastLimitS: 1e9, evidence: 1e9 },
  otherClass: { rank: 0, ttftS: 5, limitS: 1e9 },
})

function workOf(nth: number, now: number) {
  const model = models[nth % models.length] ?? ''
  return aWork({
    id: `r${nth}`,
    model,
    tenant: `tenant-${nth % 7}`,
    promptTokens: 100 + (nth % 900),
    arrivedAt: now,
  })
}

/** Two slots for each of three models in memory, and the rest on disk. */
function crowdedFleet(count: number): NodeFacts[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `node-${index}`,
    available: true,
    weight: 1,
    labels: {},
    slots: 2,
    memory: 15e9,
    maxLoaded: loaded,
    models: new Map(models.map((model) => [model, 5e9])),
    resident: Array.from({ length: loaded }, (_, which) =>
      aResident({ model: models[(index + which) % models.length] ?? '' }),
    ),
  }))
}
