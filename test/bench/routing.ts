import { readFile, writeFile } from 'node:fs/promises'
import { policies } from '../../lib/fleet/policies.ts'
import { type Contestant, compare, type Figure, type Standing } from '../../lib/rehearsal/comparison.ts'
import { defaultFleetText, type FleetPlan, readFleetPlan } from '../../lib/rehearsal/fleet-plan.ts'
import type { Scenario } from '../../lib/rehearsal/scenario.ts'
import { readTrace, type TraceRow } from '../../lib/rehearsal/trace.ts'
import { contestant, reference } from '../../lib/rehearse.ts'
import { type Abilities, defaultParameters } from '../../lib/scheduler/parameters.ts'

/**
 * The routing benchmark: rehearses all policies and writes RESULTS.md. Usage: `routing.ts [TRACE.csv]`; without a trace
 * requests are made up. The figures depend on the code, the trace and the seeds, not on the machine.
 */
interface Case {
  readonly fleet: FleetPlan
  readonly load: number
  readonly scenario: Scenario
}

const [file] = process.argv.slice(2)
const trace: readonly TraceRow[] | null = file === undefined ? null : readTrace(await readFile(file, 'utf8'))
const sixModels = readFleetPlan(defaultFleetText)
const twoModels = smallest(sixModels, 2)
const seeds = [1, 2, 3]
const requests = 5000
const steady = { fleet: sixModels, scenario: 'steady' } as const
const everybody = [...policies, reference].map((name) => contestant(name))

const columns = `| policy | SLO % | diff | TTFT p50 | p95 | p99 | e2e mean | e2e p95 | loads | unordered | refused | failed | worst tenant % |
|---|---|---|---|---|---|---|---|---|---|---|---|---|`

const sections: string[] = []
for (const load of [0.5, 0.7, 0.85, 0.95, 1.2]) {
  await section(`Six models, load ${load}`, { ...steady, load }, everybody)
}
for (const load of [0.7, 0.85, 0.95]) {
  await section(
    `Two models (nothing to swap), load ${load}`,
    { ...steady, fleet: twoModels, load },
    everybody,
  )
}
for (const scenario of ['noisy-tenant', 'slow-node', 'dead-node'] as const) {
  await section(`Six models, load 0.7, ${scenario}`, { ...steady, load: 0.7, scenario }, everybody)
}
for (const load of [0.7, 0.85]) {
  await section(`Ablations, six models, load ${load}`, { ...steady, load }, ablations())
}
await writeFile(new URL('RESULTS.md', import.meta.url), `${heading()}\n${sections.join('\n')}`)

async function section(title: string, rehearsed: Case, contestants: readonly Contestant[]): Promise<void> {
  process.stderr.write(`${title}\n`)
  const options = { ...rehearsed, trace, requests, seeds, patience: null, goal: { ttft: 5, pace: 5 } }
  const { standings } = await compare(options, contestants, async () => {})
  const rows = standings.map((standing) => row(standing, standings[0]))
  sections.push(`## ${title}\n\n${columns}\n${rows.join('\n')}\n`)
}

/** Our policy as it is, and without each of its abilities. */
function ablations(): Contestant[] {
  const full = contestant('earliest-finish')
  const { uses } = defaultParameters
  const without = (Object.keys(uses) as (keyof Abilities)[]).map((ability) => ({
    ...contestant('earliest-finish', { ...defaultParameters, uses: { ...uses, [ability]: false } }),
    name: `without ${ability}`,
  }))
  return [full, ...without]
}

function smallest({ models, ...rest }: FleetPlan, count: number): FleetPlan {
  const kept = models.slice(0, count)
  const total = kept.reduce((sum, { share }) => sum + share, 0)
  return { ...rest, models: kept.map((model) => ({ ...model, share: model.share / total })) }
}

function heading(): string {
  const source = file === undefined ? 'made-up requests' : file.replace(/^.*\//, '')
  return `# Routing: the rehearsal's results

Written by \`npm run bench:routing${file === undefined ? '' : ` -- ${source}`}\` on ${new Date().toISOString().slice(0, 10)}, from ${source}: ${requests} requests a
round, the first tenth not counted, seeds ${seeds.join(', ')}, mean ± standard deviation over them. Times in seconds of the rehearsal, so
the machine does not matter. SLO: first token within 5 s and 5 tokens/s after it, of all requests including the refused; who is
not refused never gives up. "reference": our policy with every model in memory wherever it fits alone. Diff: SLO points to the
first row.
`
}

function row({ policy, figures }: Standing, first: Standing | undefined): string {
  const percent = ({ mean, sd }: Figure) => `${(100 * mean).toFixed(1)} ±${(100 * sd).toFixed(1)}`
  const seconds = ({ mean }: Figure) => mean.toFixed(mean < 10 ? 2 : 1)
  const whole = ({ mean }: Figure) => mean.toFixed(0)
  const diff = 100 * (figures.slo.mean - (first?.figures.slo.mean ?? 0))
  const cells = [
    policy,
    percent(figures.slo),
    policy === first?.policy ? '-' : diff.toFixed(1),
    ...[figures.ttftP50, figures.ttftP95, figures.ttftP99, figures.e2eMean, figures.e2eP95].map(seconds),
    ...[figures.loads, figures.unorderedLoads, figures.refused, figures.failed].map(whole),
    percent(figures.worstTenantSlo),
  ]
  return `| ${cells.join(' | ')} |`
}
