import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { contestant } from '../../lib/commands/rehearse.ts'
import { configSchema } from '../../lib/fleet/config.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import { defaultFleetText, readFleetPlan } from '../../lib/simulation/fleet/fleet-plan.ts'
import { rehearse } from '../../lib/simulation/fleet/round.ts'
import { tally } from '../../lib/simulation/fleet/tally.ts'
import { readTrace } from '../../lib/simulation/fleet/trace.ts'
import { liveContestants } from './routing-live-contestants.ts'
import { LiveTable } from './routing-live-report.ts'
import { type LiveRound, playLive } from './routing-live-round.ts'

/**
 * `npm run bench:routing:live`: llamero, HAProxy and nginx as processes between real callers and nodes with real sockets,
 * while time goes 20 times as fast, beside the rehearsal of the same requests on the same nodes. Writes RESULTS-LIVE.md;
 * with `--quick` it only prints what it found. Linux only: costs are read from /proc.
 *
 * The nodes are those of the rehearsal, behind HTTP: any difference between live and rehearsed comes from sockets, event
 * loops, and of how much can be seen of a node from outside. Scaled is all that the nodes do, and every constant of
 * llamero's (routing-live-clock.ts): loads, limits, ageing, ticks, probes. So all seconds are the rehearsal's, and a goal
 * of 5 s is one of 0.25 s on the wall. Not scaled is what the machine itself takes: a millisecond of it counts as 20, to
 * the disadvantage of the program that computes most, llamero. The others have no constants that matter here.
 */
const usage =
  'usage: npm run bench:routing:live -- [TRACE.csv] [--quick] [--load 0.7] [--speed 20] [--requests 1500]'

/** Who the quick form is played with. */
const quickNames = ['llamero earliest-finish', 'HAProxy leastconn']

/** @throws Error that says what is wrong with the command line. */
function readOptions() {
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
  const [load, speed] = [Number(values.load), Number(values.speed)]
  const requests = Number(values.requests ?? (quick ? 400 : 1500))
  if (!(load > 0 && speed > 0 && requests >= 20)) throw new Error('a number is wrong')
  return { file: positionals[0], quick, load, speed, requests }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** The same requests on the same nodes, on virtual time, decided on as llamero does with an empty configuration. */
function playRehearsal(name: string, round: LiveRound) {
  const limitS = configSchema.parse({}).queue.max_wait / 1000
  const parameters = { ...defaultParameters, otherClass: { ...defaultParameters.otherClass, limitS } }
  const options = { ...round, scenario: 'steady', allResident: false, instances: 1, patience: null } as const
  const { outcomes, loads, unorderedLoads } = rehearse(options, contestant(name, parameters).deciderOf)
  return { ...tally(outcomes, round.goal), loads, unorderedLoads }
}

async function main({ file, quick, ...options }: ReturnType<typeof readOptions>): Promise<void> {
  const round: LiveRound = {
    ...options,
    fleet: readFleetPlan(defaultFleetText),
    trace: file === undefined ? null : readTrace(await readFile(file, 'utf8')),
    seed: 1,
    goal: { ttft: 5, pace: 5 },
  }
  const source = file === undefined ? 'made-up requests' : file.replace(/^.*\//, '')
  const table = new LiveTable(round, source)
  const contestants = liveContestants.filter(({ name }) => !quick || quickNames.includes(name))
  for (const each of contestants) {
    say(`${each.name} ...`)
    const result = await playLive(each, round)
    table.live(each.name, result)
    say(
      result ? `  ${Math.round(result.seconds)} s` : '  is not installed; Debian: apt install haproxy nginx',
    )
  }
  for (const policy of new Set(contestants.map((each) => each.policy))) {
    table.rehearsed(policy, playRehearsal(policy, round))
  }
  const text = table.text()
  process.stdout.write(text)
  if (!quick) await writeFile(new URL('RESULTS-LIVE.md', import.meta.url), text)
}

// What was started ends when this process exits; a signal alone would not get it as far as that.
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))
try {
  await main(readOptions())
} catch (error) {
  say(`error: ${(error as Error).message}\n${usage}`)
  process.exitCode = 1
}
