import { ProxyError } from '../../shared/errors.ts'
import type { Random } from '../../shared/random.ts'
import { burst, draw, type Quantiles } from './chance.ts'

/** One request of a trace: its time and its tokens. */
export interface TraceRow {
  /** Seconds. */
  readonly at: number
  readonly promptTokens: number
  readonly outputTokens: number
  /** Its conversation, and the tokens of its prompt that the conversation had before; null when the trace does not say. */
  readonly session: string | null
  readonly reusableTokens: number | null
}

const required = ['timestamp_s', 'prompt_tokens', 'output_tokens'] as const

/**
 * Reads a trace: CSV with a header of `timestamp_s,prompt_tokens,output_tokens` and, if known,
 * `session,reusable_prefix_tokens`; other columns are ignored. Rows are in the order of their times.
 *
 * @throws ProxyError `invalid` with the number of the first line that is wrong.
 */
export function readTrace(text: string): TraceRow[] {
  const [header = '', ...lines] = text.split(/\r?\n/)
  const names = header.split(',').map((name) => name.trim())
  const missing = required.filter((name) => !names.includes(name))
  if (missing.length > 0) fault(1, `has no column ${missing.join(', ')}`)
  const column = (name: string) => names.indexOf(name)
  const columns = [...required, 'session', 'reusable_prefix_tokens'].map(column)
  const rows: TraceRow[] = []
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '') continue
    const number = index + 2
    const row = readRow(line.split(','), columns, number)
    if (row.at < (rows.at(-1)?.at ?? 0)) fault(number, 'is earlier than the line above')
    rows.push(row)
  }
  if (rows.length < 2) throw new ProxyError('invalid', { reason: 'a trace has two requests at least' })
  return rows
}

function readRow(cells: readonly string[], columns: readonly number[], line: number): TraceRow {
  const [at = 0, prompt = 0, output = 0, session = -1, reusable = -1] = columns
  return {
    at: numberIn(cells[at], 'timestamp_s', line),
    promptTokens: Math.max(1, numberIn(cells[prompt], 'prompt_tokens', line)),
    outputTokens: Math.max(1, numberIn(cells[output], 'output_tokens', line)),
    session: cells[session] ?? null,
    reusableTokens:
      cells[reusable] === undefined ? null : numberIn(cells[reusable], 'reusable_prefix_tokens', line),
  }
}

function numberIn(cell: string | undefined, name: string, line: number): number {
  const value = cell === undefined || cell.trim() === '' ? Number.NaN : Number(cell)
  if (!Number.isFinite(value) || value < 0) fault(line, `has no number >= 0 in ${name}`)
  return value
}

function fault(line: number, what: string): never {
  throw new ProxyError('invalid', { reason: `line ${line} ${what}` })
}

/** Of the Azure conversation trace of 2023 (docs/routing.md#results): mean 1155 and 211 tokens. */
const prompts: Quantiles = [
  [0, 2],
  [0.05, 181],
  [0.25, 396],
  [0.4, 703],
  [0.5, 1020],
  [0.75, 1189],
  [0.9, 2735],
  [0.95, 4083],
  [0.99, 4142],
  [1, 14_050],
]
const outputs: Quantiles = [
  [0, 7],
  [0.05, 41],
  [0.25, 85],
  [0.5, 129],
  [0.6, 177],
  [0.75, 395],
  [0.95, 451],
  [0.99, 601],
  [1, 1000],
]
const arrivalVariation = 1.1

/** Requests of the shape of that trace: its lengths, and arrivals a little more bursty than by pure chance. */
export function generateTrace(count: number, random: Random): TraceRow[] {
  let at = 0
  return Array.from({ length: count }, () => {
    at += burst(random, arrivalVariation)
    return {
      at,
      promptTokens: Math.round(draw(random, prompts)),
      outputTokens: Math.round(draw(random, outputs)),
      session: null,
      reusableTokens: null,
    }
  })
}
