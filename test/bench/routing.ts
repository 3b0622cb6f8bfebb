import { readFile, writeFile } from 'node:fs/promises'
import { contestant, reference } from '../../lib/commands/rehearse.ts'
import { policies } from '../../lib/fleet/policies.ts'
import { type Abilities, defaultParameters } from '../../lib/scheduler/parameters.ts'
import { type Contestant, compare, type PolicyStanding } from '../../lib/simulation/fleet/comparison.ts'
import { defaultFleetText, type FleetPlan, readFleetPlan } from '../../lib/simulation/fleet/fleet-plan.ts'
import type { Scenario } from '../../lib/simulation/fleet/scenario.ts'
import { readTrace, type TraceRow } from '../../lib/simulation/fleet/trace.ts'
import { goalsTable } from './routing-goals.ts'
import { standingsTable } from './routing-tables.ts'
import { type Knowledge, observed, toldOfChanges } from './routing-yardsticks.ts'

/**
 * The routing benchmark: rehearses all policies and writes RESULTS.md. Usage: `routing.ts [TRACE.csv [SESSIONS.csv]]`;
 * without a trace requests are made up; affinity is shown on the second, which has long prompts that are used again. The
 * figures depend on the code, the traces and the seeds, not on the machine.
 */
interface Case {
  readonly fleet: FleetPlan
  readonly load: number
  readonly scenario: Scenario
  readonly trace: readonly TraceRow[] | null
  readonly seeds: readonly number[]
}

const files = process.argv.slice(2)
const [trace = null, sessions = trace] = await Promise.all(
  files.map(async (file) => readTrace(await readFile(file, 'utf8'))),
)
const sixModels = readFleetPlan(defaultFleetText)
const twoModels = smallest(sixModels, 2)
/** Each runner keeps 8 GB of prompts in the host's memory: llama-server's default (docs/routing.md#what-ollama-does). */
const caching = readFleetPlan(defaultFleetText.replaceAll('prompt_cache: 0', 'prompt_cache: 8'))
/** Nothing was tuned with these. */
const seeds = [21, 22, 23]
const manySeeds = [21, 22, 23, 24, 25, 26]
const requests = 5000
const steady: Case = { fleet: sixModels, load: 0.7, scenario: 'steady', trace, seeds }
const ours = contestant('earliest-finish')
const everybody = [...policies, reference].map((name) => contestant(name))
const { uses } = defaultParameters
const abilities = Object.keys(uses) as (keyof Abilities)[]

const sections: string[] = []
const all: PolicyStanding[] = []
const six = new Map<number, readonly PolicyStanding[]>()
for (const load of [0.5, 0.7, 0.85, 0.95, 1.2])
  six.set(load, await section(`Six models, load ${load}`, { ...steady, load }, everybody))
const two = new Map<number, readonly PolicyStanding[]>()
for (const load of [0.7, 0.85, 0.95]) {
  const title = `Two models (nothing to swap), load ${load}`
  two.set(load, await section(title, { ...steady, fleet: twoModels, load }, everybody))
}
for (const scenario of ['noisy-tenant', 'slow-node', 'dead-node'] as const)
  await section(`Six models, load 0.7, ${scenario}`, { ...steady, scenario }, everybody)
const several = new Map<number, readonly PolicyStanding[]>()
for (const load of [0.5, 0.7, 0.85]) {
  const title = `Several instances, each with a queue of its own, load ${load}`
  several.set(load, await section(title, { ...steady, load }, [ours, ...[3, 10].map(shared)]))
}

const longer = { ...steady, seeds: manySeeds }
const [learned, known] = [nothingKnown(), nothingKnown()]
const slow: Case = { ...longer, scenario: 'slow-node' }
const watched = [toldOfChanges, observed(learned)]
const slowNode = await section('Told of the change, load 0.7, slow-node', slow, watched)
const quiet = await section('Load 0.5 without noise', { ...longer, load: 0.5 }, [ours])
const noisy: Case = { ...longer, load: 0.5, scenario: 'noisy-tenant' }
const unfair = await section('Ablations, load 0.5, noisy-tenant', noisy, without(['fairness', 'reservation']))
for (const load of [0.7, 0.85]) {
  const contestants = without(abilities).with(0, observed(known))
  await section(`Ablations, six models, load ${load}`, { ...longer, load }, contestants)
}
const crowded = { ...longer, fleet: twoModels, load: 0.95 }
await section('Ablations, two models, load 0.95', crowded, without(['order', 'fairness']))
await section('Ablation, load 1.2', { ...longer, load: 1.2 }, without(['reservation']))
const limited = [ours, ...[20, 60].map(withLimit)]
const limits = await section('Limits of the first token, load 1.2', { ...longer, load: 1.2 }, limited)
const kept: PolicyStanding[] = []
for (const [title, each] of [
  ['the first trace, load 0.7', { ...longer, fleet: caching }],
  ['the trace with sessions, load 0.2', { ...longer, fleet: caching, load: 0.2, trace: sessions }],
] as const) {
  const name = `Ablation, prompts kept in host memory, ${title}`
  kept.push(...(await section(name, each, without(['affinity']))).slice(0, 1))
}

const goals = goalsTable({
  six,
  two,
  several,
  noise: [...quiet, ...unfair.slice(0, 1)],
  slowNode,
  learned,
  known,
  limits,
  caching: kept,
  ours: all.filter(({ policy }) => policy === ours.name),
})
const text = `${heading()}\n## Goals (docs/routing.md#results)\n\n${goals}\n\n${sections.join('\n')}`
await writeFile(new URL('RESULTS.md', import.meta.url), text)

async function section(title: string, rehearsed: Case, contestants: readonly Contestant[]) {
  process.stderr.write(`${title}\n`)
  const options = { ...rehearsed, requests, patience: null, goal: { ttft: 5, pace: 5 } }
  const { standings } = await compare(options, contestants, async () => {})
  all.push(...standings)
  sections.push(`## ${title}\n\n${standingsTable(standings)}\n`)
  return standings
}

function nothingKnown(): Knowledge {
  return { decode: [], prefill: [], writing: [], reading: [] }
}

/** Our policy on so many instances in front of one fleet. */
function shared(instances: number): Contestant {
  return { ...ours, instances, name: `${instances} instances` }
}

/** Our policy with a limit: it refuses a request when its first token is predicted to take longer, in seconds. */
function withLimit(limitS: number): Contestant {
  const { otherClass, admission } = defaultParameters
  const parameters = {
    ...defaultParameters,
    otherClass: { ...otherClass, limitS },
    admission: { ...admission, leastLimitS: limitS },
  }
  return { ...contestant(ours.name, parameters), name: `limit ${limitS} s` }
}

/** Our policy as it is, and without each of these abilities. */
function without(lost: readonly (keyof Abilities)[]): Contestant[] {
  const others = lost.map((ability) => ({
    ...contestant(ours.name, { ...defaultParameters, uses: { ...uses, [ability]: false } }),
    name: `without ${ability}`,
  }))
  return [ours, ...others]
}

function smallest({ models, ...rest }: FleetPlan, count: number): FleetPlan {
  const kept = models.slice(0, count)
  const total = kept.reduce((sum, { share }) => sum + share, 0)
  return { ...rest, models: kept.map((model) => ({ ...model, share: model.share / total })) }
}

function heading(): string {
  const names = files.map((file) => file.replace(/^.*\//, '')).join(' ')
  const today = new Date().toISOString().slice(0, 10)
  return `# Routing: the rehearsal's results

Written by \`npm run bench:routing${names === '' ? '' : ` -- ${names}`}\` on ${today}, from ${names === '' ? 'made-up requests' : names}: ${requests} requests a
round, the first tenth not counted, seeds ${seeds.join(', ')} (ablations ${manySeeds.join(', ')}), mean ± standard deviation over them. Times in seconds of the
rehearsal, so the machine does not matter. SLO: first token within 5 s and 5 tokens/s after it, of all requests including the refused,
but not of the noisy tenant's; a request that is not refused never gives up. "reference": our policy with every model in memory wherever it fits
alone. diff: SLO points to the first row, seed by seed, ± standard error. to victims: requests sent to a model about to be unloaded. soon
after: SLO of what arrived within 2 min of the noise's start, or 10 min of half time. cached: share of the reusable prompt tokens that were.
beyond slots: share of the requests sent to a node that had as many for their model as it has slots. Several instances get each request by
chance, and know of each other what load summaries say.
`
}
