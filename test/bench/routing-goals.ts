import { reference } from '../../lib/commands/rehearse.ts'
import type { FigureName, PolicyStanding } from '../../lib/simulation/fleet/comparison.ts'
import { difference, percent } from './routing-tables.ts'
import type { Knowledge } from './routing-yardsticks.ts'

/** What the goals are judged by. */
export interface Evidence {
  /** Of all policies and the yardstick, by load. */
  readonly six: ReadonlyMap<number, readonly PolicyStanding[]>
  readonly two: ReadonlyMap<number, readonly PolicyStanding[]>
  /** Our policy on one instance, then on three and ten, by load. */
  readonly several: ReadonlyMap<number, readonly PolicyStanding[]>
  /** Our policy without noise, then with. */
  readonly noise: readonly PolicyStanding[]
  /** Our policy told of the change, then as it is. */
  readonly slowNode: readonly PolicyStanding[]
  /** What was known of the nodes, in the rehearsal where one becomes slow, and in those where nothing happens. */
  readonly learned: Knowledge
  readonly known: Knowledge
  /** Our policy at load 1.2, for each limit of a class: first its own, last the default configuration's. */
  readonly limits: readonly PolicyStanding[]
  /** Our policy where prompts are kept in the host's memory: without and with sessions in the trace. */
  readonly caching: readonly PolicyStanding[]
  /** All rehearsals of our policy. */
  readonly ours: readonly PolicyStanding[]
}

interface Check {
  readonly goal: string
  readonly wanted: string
  readonly measured: string
  /** Null: there is no goal. */
  readonly isMet: boolean | null
}

const heading = `| goal | wanted | measured | |
|---|---|---|---|`

/**
 * The goals of docs/routing.md#results that are judged without sockets, and how it did. G9 is about the time that
 * deciding takes, of which the rehearsal knows nothing: `npm run bench` measures it.
 */
export function goalsTable(evidence: Evidence): string {
  const parts = [swapping, noSwaps, shared, disturbed, guarded]
  const checks = parts.flatMap((part) => part(evidence))
  const rows = checks.map(
    ({ goal, wanted, measured, isMet }) =>
      `| ${goal} | ${wanted} | ${measured} | ${isMet === null ? '' : isMet ? 'met' : '**missed**'} |`,
  )
  return `${heading}\n${rows.join('\n')}`
}

/** G1, G2 and G4. */
function swapping({ six }: Evidence): Check[] {
  const half = entrants(six, 0.5)
  const more = entrants(six, 0.7)
  const behind = [half, more].map(({ ours, ideal }) => points(ideal, 'slo') - points(ours, 'slo'))
  return [
    {
      ...sloOf('G1 six models, load 0.5', half.ours, 94),
      measured: `${slo(half.ours)}; with every model in memory ${slo(half.ideal)}`,
    },
    atMost('G1 TTFT p95', value(half.ours, 'ttftP95'), 5.5, 's'),
    atLeast('G1 TTFT p95 of least-connections against it', ratio(half, 'ttftP95'), 40, 'x'),
    atLeast('G1 loads of least-connections against it', ratio(half, 'loads'), 15, 'x'),
    sloOf('G2 load 0.7', more.ours, 85),
    atMost('G2 TTFT p50', value(more.ours, 'ttftP50'), 1.5, 's'),
    atMost('G2 TTFT p95', value(more.ours, 'ttftP95'), 11, 's'),
    atMost('G4 behind "all in memory", load 0.5', behind[0] ?? 0, 2, ' points'),
    atMost('G4 the same, load 0.7', behind[1] ?? 0, 5, ' points'),
  ]
}

/** G3. */
function noSwaps({ two }: Evidence): Check[] {
  const most = entrants(two, 0.85)
  return [
    sloOf('G3 two models, load 0.7', entrants(two, 0.7).ours, 99),
    sloOf('G3 load 0.85', most.ours, 95),
    atLeast('G3 TTFT p95 of least-connections against it', ratio(most, 'ttftP95'), 3, 'x'),
    sloOf('G3 load 0.95', entrants(two, 0.95).ours, 80),
  ]
}

/** G5. */
function shared({ several }: Evidence): Check[] {
  return [...several].flatMap(([load, [one, ...others]]) =>
    others.map((standing) => {
      const behind = one ? points(one, 'slo') - points(standing, 'slo') : Number.NaN
      return atMost(`G5 ${standing.policy} behind one, load ${load}`, behind, 1.5, ' points')
    }),
  )
}

/** G6, G7 and G8. */
function disturbed({ noise, limits, slowNode, learned, known }: Evidence): Check[] {
  const [ours, patient] = [first(limits), last(limits)]
  const [quiet, noisy] = [first(noise), last(noise)]
  const loss = difference(first(slowNode), last(slowNode), 'aftermathSlo')
  return [
    {
      ...sloOf('G6 noisy tenant, load 0.5: the others', noisy, 90),
      measured: `${slo(noisy)}, without noise ${slo(quiet)}`,
    },
    {
      goal: 'G6 the same, only the two minutes from its start',
      wanted: '>= 90 % SLO',
      measured: `${slo(noisy, 'aftermathSlo')}, without noise ${slo(quiet, 'aftermathSlo')}`,
      isMet: points(noisy, 'aftermathSlo') >= 90,
    },
    sloOf('G7 load 1.2, of all offered', ours, 60),
    atMost('G7 TTFT p95 of the admitted', value(ours, 'ttftP95'), 10, 's'),
    sloOf(`G7 with the default configuration's limit of 60 s`, patient, 60),
    atMost('G7 TTFT p95 with that', value(patient, 'ttftP95'), 10, 's'),
    learnedWithin('G8 seconds per token of a lone stream, after ten completions', learned.decode),
    learnedWithin('G8 prompt tokens per second of a lone prompt, after ten', learned.prefill),
    predictedWith('G8 seconds to write an answer of known length, as predicted then', known.writing),
    predictedWith('G8 seconds on its node to the first token, as predicted then', known.reading),
    {
      goal: 'G8 fastest node 8 x slower, loss over 10 min against being told at once',
      wanted: '<= 3 points',
      measured: `${percent(loss)} points (± standard error)`,
      isMet: 100 * loss.mean <= 3,
    },
  ]
}

/** G10 and G12. */
function guarded({ ours, caching }: Evidence): Check[] {
  const hits = caching.map((standing) => points(standing, 'prefixHits'))
  const sum = (name: FigureName) =>
    ours.flatMap(({ rounds }) => rounds).reduce((total, round) => total + round[name], 0)
  return [
    atMost('G10 requests sent to a victim, all rehearsals of our policy', sum('victimStarts'), 0, ''),
    atMost('G10 loads that nobody ordered', sum('unorderedLoads'), 0, ''),
    atLeast('G12 reusable tokens cached, 8 GB of host memory per runner', hits[0] ?? 0, 60, ' %'),
    atLeast('G12 the same on the trace with sessions', hits[1] ?? 0, 30, ' %'),
  ]
}

function entrants(cases: ReadonlyMap<number, readonly PolicyStanding[]>, load: number) {
  const standings = cases.get(load) ?? []
  const named = (name: string) => standings.find(({ policy }) => policy === name) ?? first(standings)
  return { ours: first(standings), theirs: named('least-connections'), ideal: named(reference) }
}

function first(standings: readonly PolicyStanding[]): PolicyStanding {
  const standing = standings[0]
  if (!standing) throw new Error('nobody was rehearsed')
  return standing
}

function last(standings: readonly PolicyStanding[]): PolicyStanding {
  return standings.at(-1) ?? first(standings)
}

function ratio({ ours, theirs }: ReturnType<typeof entrants>, name: FigureName): number {
  return value(theirs, name) / Math.max(1e-9, value(ours, name))
}

function value({ figures }: PolicyStanding, name: FigureName): number {
  return figures[name].mean
}

/** In steps of a tenth, as they are shown: what reads as met is. */
function points(standing: PolicyStanding, name: FigureName): number {
  return Math.round(1000 * value(standing, name)) / 10
}

function slo({ figures }: PolicyStanding, name: FigureName = 'slo'): string {
  return `${percent(figures[name])} %`
}

/** Whether nearly all that was learned is near the truth. */
function learnedWithin(goal: string, learned: Knowledge['decode']): Check {
  const right = errorsOf(learned).filter((error) => error <= 0.15).length / Math.max(1, learned.length)
  const near = `${(100 * right).toFixed(0)} % of ${learned.length} (node, model) are`
  return {
    goal,
    wanted: 'within 15 %',
    measured: `${near}, median error ${medianOf(learned)}`,
    isMet: right >= 0.95,
  }
}

/** How far predictions were off that were made with it. */
function predictedWith(goal: string, predictions: Knowledge['writing']): Check {
  const sum = (kind: 'predicted' | 'actual') => predictions.reduce((total, each) => total + each[kind], 0)
  const bias = sum('predicted') / sum('actual') - 1
  const together = `${bias < 0 ? '' : '+'}${(100 * bias).toFixed(1)} %`
  return {
    goal,
    wanted: '',
    measured: `median error ${medianOf(predictions)}, all together ${together}`,
    isMet: null,
  }
}

function medianOf(predictions: Knowledge['writing']): string {
  const errors = errorsOf(predictions)
  return `${(100 * (errors[errors.length >> 1] ?? 0)).toFixed(1)} %`
}

/** Ascending, as shares of the truth. */
function errorsOf(predictions: Knowledge['writing']): number[] {
  return predictions.map(({ predicted, actual }) => Math.abs(predicted / actual - 1)).sort((a, b) => a - b)
}

function sloOf(goal: string, standing: PolicyStanding, least: number): Check {
  const isMet = points(standing, 'slo') >= least
  return { goal, wanted: `>= ${least} % SLO`, measured: slo(standing), isMet }
}

function atLeast(goal: string, measured: number, least: number, unit: string): Check {
  return {
    goal,
    wanted: `>= ${least}${unit}`,
    measured: `${rounded(measured)}${unit}`,
    isMet: measured >= least,
  }
}

function atMost(goal: string, measured: number, most: number, unit: string): Check {
  return {
    goal,
    wanted: `<= ${most}${unit}`,
    measured: `${rounded(measured)}${unit}`,
    isMet: measured <= most,
  }
}

function rounded(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1)
}
