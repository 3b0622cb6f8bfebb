import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RehearsedNode } from '../../lib/rehearsal/node.ts'
import { type RoundOptions, requestsFor, speedsOf } from '../../lib/rehearsal/round.ts'
import { type Goal, type Tally, tally } from '../../lib/rehearsal/tally.ts'
import { Timeline } from '../../lib/rehearsal/timeline.ts'
import { seededDice } from '../../lib/shared/seeded-dice.ts'
import { cpuNs } from './process-cost.ts'
import { Callers } from './routing-live-callers.ts'
import type { LiveContestant } from './routing-live-contestants.ts'
import { keepFlushing, LiveNode } from './routing-live-node.ts'
import { Pace } from './routing-live-pace.ts'
import { percentile } from './statistics.ts'

/** Who has not been answered so long after the last request was sent counts as lost; seconds of the timeline. */
const longestWait = 2400
/** Between the contestant's start and the first request. */
const settlePeriod = 10

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

/** Has real callers ask real sockets, in front of one contestant; null when it is not installed. Of the same seed as a rehearsal come the same nodes and the same requests. */
export async function playLive({ start }: LiveContestant, round: LiveRound): Promise<LiveResult | null> {
  const { fleet, seed, speed, goal } = round
  const speeds = speedsOf(fleet, seededDice(seed))
  const requests = requestsFor({ ...round, scenario: 'steady', allResident: false, patience: null }, speeds)
  const timeline = new Timeline()
  const pace = new Pace(timeline, speed)
  await using cleanup = new AsyncDisposableStack()
  const nodes = await Promise.all(
    fleet.nodes.map((plan) => {
      const node = new RehearsedNode(timeline, fleet, plan, speeds.get(plan.name) ?? plan.speed)
      return LiveNode.start({ node, pace, requests })
    }),
  )
  cleanup.defer(() => {
    for (const node of nodes) node.stop()
  })
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
  const beginsAt = pace.now + settlePeriod
  const moved = requests.map((request) => ({ ...request, at: request.at + beginsAt }))
  for (const [index, request] of moved.entries()) timeline.at(request.at, () => callers.send(request, index))
  const overAt = (moved.at(-1)?.at ?? 0) + longestWait
  while (callers.ended < moved.length && pace.now < overAt) await sleep(100)

  const others = process.cpuUsage(before.others)
  return {
    ...tally(callers.outcomes(moved), goal),
    loads: nodes.reduce((sum, { loads }) => sum + loads.all, 0),
    unorderedLoads: nodes.reduce((sum, { loads }) => sum + loads.unordered, 0),
    ownCpu: (cpuNs(program.pid) - before.own) / 1e9,
    othersCpu: (others.user + others.system) / 1e6,
    seconds: (performance.now() - before.at) / 1000,
    lag: percentile(pace.lags, 0.99),
  }
}
