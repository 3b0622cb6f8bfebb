import { availableParallelism, loadavg } from 'node:os'
import { type Column, table } from '../../lib/cli/terminal/table.ts'
import { defaultParameters } from '../../lib/scheduler/parameters.ts'
import { starters } from './contestants.ts'
import type { Figures, Results } from './run.ts'

/** What a measure should be, and what came of it. */
interface Judgement {
  /** In words: what is compared with what. */
  readonly as: string
  readonly unit: string
  readonly value: number
  readonly hold: number
  readonly aim: number
  readonly verdict: 'held' | 'missed'
}

interface Row {
  readonly measure: string
  readonly figures: Figures
  readonly judgement: Judgement | null
}

const contestants = ['direct', ...Object.keys(starters)]

/** The results as people read them: a row per measure, a column per contestant, and the promise beside it. */
export function asTable(results: Results, rounds: number): string {
  const columns: Column<Row>[] = [
    { title: 'MEASURE', cell: ({ measure }) => measure },
    ...contestants.map((name): Column<Row> => {
      return { title: name.toUpperCase(), cell: ({ figures }) => figure(figures[name]), align: 'right' }
    }),
    { title: 'LLAMERO IS', cell: ({ judgement }) => (judgement ? is(judgement) : '') },
    { title: 'HOLD', cell: ({ judgement }) => (judgement ? `≤ ${judgement.hold}` : ''), align: 'right' },
    { title: 'AIM', cell: ({ judgement }) => (judgement ? `≤ ${judgement.aim}` : ''), align: 'right' },
    { title: 'VERDICT', cell: ({ judgement }) => judgement?.verdict ?? '' },
  ]
  const { node, cpus, load } = machine()
  const heading = `node ${node}, ${cpus} CPUs, load ${load.toFixed(2)}, median of ${rounds} rounds`
  return `${heading}\n\n${table(columns, rowsOf(results), { wide: false, colour: false, width: null })}`
}

/** The same for programs. */
export function asJson(results: Results, rounds: number): string {
  return `${JSON.stringify({ machine: machine(), rounds, rows: rowsOf(results) }, null, 2)}\n`
}

function rowsOf(results: Results): Row[] {
  const { requestUs, requestRatio, chunkUs, firstTokenP99Ms, idleStreamKiB } = results
  const { corePass50Us, corePass1000Us, pass50Us, pass1000Us } = results
  const { rebuildMs, listBlockedMs, blockedMs, burstBlockedMs, tagsMs } = results
  const added = of(firstTokenP99Ms, 'llamero') - of(firstTokenP99Ms, 'direct')
  return [
    {
      measure: 'CPU per small request, µs',
      figures: requestUs,
      judgement: judge('of http-proxy', 'x', of(requestRatio, 'llamero'), { hold: 1.5, aim: 0.8 }),
    },
    {
      measure: 'CPU per streamed chunk, µs',
      figures: chunkUs,
      judgement: judge('of relay', 'x', ratio(chunkUs, 'relay'), { hold: 2, aim: 1.2 }),
    },
    { measure: 'chunks that came one by one, %', figures: percent(results.chunksApart), judgement: null },
    { measure: 'time to first token p50, ms', figures: results.firstTokenP50Ms, judgement: null },
    {
      measure: 'time to first token p99, ms',
      figures: firstTokenP99Ms,
      judgement: judge('over direct', 'ms', added, { hold: 2, aim: 0.5 }),
    },
    {
      measure: 'memory per idle stream, KiB',
      figures: idleStreamKiB,
      judgement: judge('', 'KiB', of(idleStreamKiB, 'llamero'), { hold: 80, aim: 30 }),
    },
    { measure: 'queue pass, core, 50 nodes, 100 queued, p99, µs', figures: corePass50Us, judgement: null },
    {
      measure: 'queue pass, core, 1000 nodes, 1000 queued, p99, µs',
      figures: corePass1000Us,
      judgement: null,
    },
    { measure: 'queue pass, 50 nodes, 100 queued, p99, µs', figures: pass50Us, judgement: null },
    { measure: 'queue pass, 1000 nodes, 1000 queued, p99, µs', figures: pass1000Us, judgement: null },
    {
      measure: 'decision, 50 nodes, 100 queued, p99 amortised, µs',
      figures: amortised(pass50Us),
      judgement: judge(`(${decided} a pass)`, 'µs', of(amortised(pass50Us), 'llamero'), {
        hold: 50,
        aim: 10,
      }),
    },
    {
      measure: 'decision, 1000 nodes, 1000 queued, p99 amortised, µs',
      figures: amortised(pass1000Us),
      judgement: judge(`(${decided} a pass)`, 'µs', of(amortised(pass1000Us), 'llamero'), {
        hold: 500,
        aim: 50,
      }),
    },
    {
      measure: 'snapshot, 1000 nodes x 50 models, one change, p99, ms',
      figures: rebuildMs,
      judgement: judge('', 'ms', of(rebuildMs, 'llamero'), { hold: 50, aim: 10 }),
    },
    {
      measure: 'event loop kept by one change, ms',
      figures: blockedMs,
      judgement: judge('', 'ms', of(blockedMs, 'llamero'), { hold: 10, aim: 5 }),
    },
    {
      measure: 'event loop kept by the whole list, ms',
      figures: listBlockedMs,
      judgement: judge('', 'ms', of(listBlockedMs, 'llamero'), { hold: 10, aim: 5 }),
    },
    {
      measure: 'event loop kept by 1000 changes in 1 s, ms',
      figures: burstBlockedMs,
      judgement: judge('', 'ms', of(burstBlockedMs, 'llamero'), { hold: 10, aim: 5 }),
    },
    {
      measure: '/api/tags during single changes, p99, ms',
      figures: tagsMs,
      judgement: judge('', 'ms', of(tagsMs, 'llamero'), { hold: 5, aim: 2 }),
    },
  ]
}

function judge(
  as: string,
  unit: string,
  value: number,
  { hold, aim }: { readonly hold: number; readonly aim: number },
): Judgement {
  return { as, unit, value, hold, aim, verdict: value <= hold ? 'held' : 'missed' }
}

function ratio(figures: Figures, reference: string): number {
  return of(figures, 'llamero') / of(figures, reference)
}

function of(figures: Figures, name: string): number {
  return figures[name] ?? Number.NaN
}

/** A pass decides on so many requests: where each goes, or what it waits for (docs/routing.md#queue-pass, G9). */
const decided = defaultParameters.queue.window

function amortised(passes: Figures): Figures {
  return Object.fromEntries(Object.entries(passes).map(([name, us]) => [name, us / decided]))
}

function percent(shares: Figures): Figures {
  return Object.fromEntries(Object.entries(shares).map(([name, share]) => [name, share * 100]))
}

function is({ value, unit, as }: Judgement): string {
  return `${figure(value)} ${unit} ${as}`.trimEnd()
}

/** Three digits that matter: the machine's noise is larger than a fourth. */
function figure(value: number | undefined): string {
  if (value === undefined) return '-'
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3)
}

function machine() {
  return { node: process.version, cpus: availableParallelism(), load: loadavg()[0] ?? 0 }
}
