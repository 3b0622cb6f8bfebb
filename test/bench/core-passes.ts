import { Core } from '../../lib/scheduler/core.ts'
import type { NodeFacts } from '../../lib/scheduler/events.ts'
import { aRequest, aResident, someParameters, someTimings } from '../support/core.ts'
import { percentile } from './statistics.ts'

interface Situation {
  readonly nodes: number
  readonly queued: number
  /** That count. */
  readonly decisions: number
}

/** More than one, so that the queue is no row of equals. */
const models = Array.from({ length: 10 }, (_, index) => `model-${index}:latest`)
/** Each node has so many of them in memory. */
const loaded = 3
/** For each of them. */
const slotsEach = 2

/**
 * What the core takes for one pass over the queue, in microseconds, at p99 of all passes: every slot is taken, the queue
 * stays as long as it is, and models are spread unevenly. Before each pass one request comes, one gets its first token,
 * and one ends with all that is learned from it; these events are timed with it. One request is sent, the others of the
 * window are given their places again.
 */
export function corePassUs({ nodes, queued, decisions }: Situation): number {
  const slots = nodes * loaded * slotsEach
  const { core, decide } = crowdedCore(nodes, someTimings().total / slots)
  // Requests that started on the empty fleet end before the measurement.
  const warmUp = Math.max(decisions, 2 * slots)
  while (core.queued().length < queued) decide({ ends: false })
  for (let nth = 0; nth < warmUp; nth++) decide({ ends: true })
  const timings = Array.from({ length: decisions }, () => {
    const since = performance.now()
    decide({ ends: true })
    return (performance.now() - since) * 1000
  })
  return percentile(timings, 0.99)
}

/** A core, and what happens to it every `stepS` seconds. */
function crowdedCore(nodes: number, stepS: number) {
  let [now, nth] = [0, 0]
  const core = new Core({ policy: 'earliest-finish', parameters: patient, random: Math.random })
  core.take({ type: 'fleet', nodes: crowdedFleet(nodes) }, now)
  const reading: string[] = []
  const writing: string[] = []
  const decide = ({ ends }: { readonly ends: boolean }) => {
    now += stepS
    core.take({ type: 'arrived', request: workOf(nth++, now) }, now)
    const read = reading.shift()
    if (read) {
      core.take({ type: 'first-token', id: read }, now)
      writing.push(read)
    }
    const ended = ends && writing.shift()
    if (ended) core.take({ type: 'ended', id: ended, timings: someTimings() }, now)
    for (const effect of core.pass(now)) if (effect.type === 'start') reading.push(effect.id)
  }
  return { core, decide }
}

/** No request is refused, so that the queue keeps its length. */
const patient = someParameters({
  admission: { maxQueued: 1e9, tenantS: 1e9, maxWaitS: 1e9, leastLimitS: 1e9, evidence: 1e9 },
  otherClass: { rank: 0, ttftS: 5, limitS: 1e9 },
})

function workOf(nth: number, now: number) {
  const model = models[nth % models.length] ?? ''
  return aRequest({
    id: `r${nth}`,
    model,
    tenant: `tenant-${nth % 7}`,
    promptTokens: 100 + (nth % 900),
    arrivedAt: now,
  })
}

/** Three models of each node are in memory, and the rest on disk. */
function crowdedFleet(count: number): NodeFacts[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `node-${index}`,
    available: true,
    weight: 1,
    labels: {},
    slots: slotsEach,
    memory: 15e9,
    maxLoaded: loaded,
    models: new Map(models.map((model) => [model, 5e9])),
    resident: Array.from({ length: loaded }, (_, which) =>
      aResident({ model: models[(index + which) % models.length] ?? '' }),
    ),
  }))
}
