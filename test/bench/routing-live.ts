import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { compare } from '../../lib/rehearsal/comparison.ts'
import { defaultFleetText, readFleetPlan } from '../../lib/rehearsal/fleet-plan.ts'
import { readTrace } from '../../lib/rehearsal/trace.ts'
import { contestant } from '../../lib/rehearse.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import { liveContestants } from './routing-live-contestants.ts'
import { type LiveResult, playLive } from './routing-live-round.ts'

/**
 * `npm run bench:routing:live`: llamero, HAProxy and nginx as processes, between real callers and nodes with real sockets,
 * with time going 20 times as fast, beside the rehearsal of the same requests on the same nodes. Writes RESULTS-LIVE.md.
 *
 * The nodes are the rehearsal's, behind HTTP, so that what differs between the two tables is ours: sockets, event loops,
 * and what llamero can see of a node from outside. Everything of the nodes is scaled, and so is every constant of llamero
 * (see routing-live-clock.ts): seconds here are the rehearsal's. Not scaled is what a machine takes to do a thing: a
 * millisecond of it counts as 20, to the disadvantage of whoever computes much. Other proxies have no constants that matter.
 */
const usage = 'usage: npm run bench:routing:live -- [TRACE.csv] [--quick] [--load 0.7] [--speed 20] [--requests N]'

/** Late by more than so many real milliseconds, the machine is what is measured. */
const mostLag = 10

const columns = `| contestant | SLO % | TTFT p50 | p95 | p99 | e2e mean | loads | unordered | refused | failed |`

interface Options {
  readonly trace: string | undefined
  readonly quick: boolean
  readonly load: number
  readonly speed: number
  readonly requests: number
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      load: { type: 'string', default: '0.7' },
      speed: { type: 'string', default: '20' },
      requests: { type: 'string' },
    },
  })
  const { quick } = values
  const options = {
    trace: positionals[0],
    quick,
    load: Number(values.load),
    speed: Number(values.speed),
    requests: Number(values.requests ?? (quick ? 500 : 2000)),
  }
  if (!(options.load > 0 && options.speed > 0 && options.requests > 1)) throw new Error(usage)
  return options
}
const options = readOptions()
const round = {
  fleet: readFleetPlan(defaultFleetText),
  trace: options.trace === undefined ? null : readTrace(await readFile(options.trace, 'utf8')),
  load: options.load,
  requests: options.requests,
  speed: options.speed,
  seed: 1,
  goal: { ttft: 5, pace: 5 },
}
const only = process.env['ONLY']
for (const each of liveContestants) {
  if (only && !each.name.includes(only)) continue
  const result = await playLive(each, round)
  process.stderr.write(`${each.name} ${JSON.stringify(result)}\n`)
}
const { limitS: _, ...rest } = defaultParameters.otherClass
const parameters = { ...defaultParameters, otherClass: { ...rest, limitS: 60 } }
const { standings } = await compare(
  { ...round, scenario: 'steady', patience: null, seeds: [1] },
  ['earliest-finish', 'resident-first', 'least-connections'].map((n) => contestant(n, parameters)),
  async () => {},
)
for (const { policy, figures } of standings) process.stderr.write(`${policy} ${JSON.stringify(Object.fromEntries(Object.entries(figures).map(([k, v]) => [k, v.mean])))}\n`)
