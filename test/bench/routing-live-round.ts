import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { seededRandom } from '../../lib/shared/random.ts'
import { type RoundOptions, requestsFor, speedsOf } from '../../lib/simulation/fleet/round.ts'
import { type Goal, type Tally, tally } from '../../lib/simulation/fleet/tally.ts'
import { Timeline } from '../../lib/simulation/fleet/timeline.ts'
import { VirtualNode } from '../../lib/simulation/fleet/virtual-node.ts'
import { cpuNs } from './process-cost.ts'
import { Callers } from './routing-live-callers.ts'
import type { LiveContestant } from './routing-live-contestants.ts'
import { keepFlushing, LiveNode } from './routing-live-node.ts'
import { Pace } from './routing-live-pace.ts'
import { percentile } from './statistics.ts'

export interface LiveResult extends Tally {
  readonly loads: number
  readonly unorderedLoads: number
  /** Real seconds of CPU. */
  readonly ownCpu: number
  readonly othersCpu: number
  /** Real seconds that it took. */
  readonly seconds: number
  /** Real milliseconds that callers and nodes were late, at the 99th percentile. */
  readonly lag: number
}

export interface LiveRound extends Pick<RoundOptions, 'fleet' | 'trace' | 'load' | 'requests' | 'seed'> {
  readonly speed: number
  readonly goal: Goal
}

/**
 * Has real callers ask one contestant in front of real sockets; of the same seed as a rehearsal come the same nodes and the
 * same requests. Resolves to null when the contestant is not installed.
 */
export async function playLive({ start }: LiveContestant, round: LiveRound): Promise<LiveResult | null> {
  const { fleet, seed, speed, goal } = round
  const speeds = speedsOf(fleet, seededRandom(seed))
  const requests = requestsFor(
    { ...round, scenario: 'steady', allResident: false, instances: 1, patience: null },
    speeds,
  )
  const timeline = new Timeline()
  const pace = new Pace(timeline, speed)
  await using cleanup = new AsyncDisposableStack()
  const nodes = await Promise.all(
    fleet.nodes.map((plan) => {
      const node = new VirtualNode(timeline, fleet, plan, speeds.get(plan.name) ?? plan.speed)
      return LiveNode.start({ node, pace, requests })
    }),
  )
  for (const node of nodes) cleanup.defer(() => node.stop())
  pace.start()
  cleanup.defer(() => pace.stop())
  cleanup.defer(keepFlushing(nodes, pace))
  const dir = await mkdtemp(join(tmpdir(), 'llamero-live-'))
  cleanup.defer(() => rm(dir, { recursive: true }))
  const tenants = [...new Set(requests.map(({ tenant }) => tenant))]
  const started = await start({ dir, nodes, tenants, speed })
  if (!started) return null
  const { program, tokens } = started
  cleanup.defer(() => program.stop())

  const callers = new Callers({ port: program.port, pace, tokens })
  cleanup.defer(() => callers.close())
  const before = { own: cpuNs(program.pid), others: process.cpuUsage(), at: performance.now() }
  const outcomes = await callers.sendAll(requests, timeline)
  const others = process.cpuUsage(before.others)
  return {
    ...tally(outcomes, goal),
    loads: nodes.reduce((sum, { loads }) => sum + loads.all, 0),
    unorderedLoads: nodes.reduce((sum, { loads }) => sum + loads.unordered, 0),
    ownCpu: (cpuNs(program.pid) - before.own) / 1e9,
    othersCpu: (others.user + others.system) / 1e6,
    seconds: (performance.now() - before.at) / 1000,
    lag: percentile(pace.lags, 0.99),
  }
}
