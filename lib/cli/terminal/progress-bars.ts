import type { JobState } from '../../fleet/job.ts'
import { formatDuration } from '../../shared/duration.ts'
import { columnsOf, cutTo, padTo } from './columns.ts'
import { bytes } from './format.ts'
import { printable } from './table.ts'

/** The progress of a job on one node. */
export interface ProgressRow {
  readonly node: string
  readonly state: JobState
  /** The last status line of the node. */
  readonly status: string
  /** Bytes. */
  readonly completed: number
  readonly total: number
  /** Why it failed, or what it waits for. */
  readonly error: string | null
  /** Bytes per second; null when it is not known. */
  readonly rate: number | null
}

/** Characters of a terminal. */
export interface Screen {
  readonly columns: number
  readonly rows: number
}

/** The width of "pulling" and the part of a digest that Ollama shows. It is fixed, so that the bars do not move. */
const wordsWidth = 20
const shortestBar = 8
const longestBar = 50

/**
 * One line per node, like `ollama pull`. No line is wider than the screen, and two rows of the screen stay free, because
 * lines that have scrolled away cannot be redrawn. The last line counts the nodes without a row.
 */
export function progressBars(rows: readonly ProgressRow[], screen: Screen): string[] {
  const room = Math.max(2, screen.rows - 2)
  const shown = rows.length <= room ? rows : byInterest(rows).slice(0, room - 1)
  const nameWidth = Math.max(0, ...shown.map(({ node }) => columnsOf(node)))
  const width = screen.columns - 1
  const lines = shown.map((row) => cutTo(width, lineOf(row, nameWidth, width)).trimEnd())
  const hidden = rows.filter((row) => !shown.includes(row))
  return hidden.length > 0 ? [...lines, `and ${hidden.length} more: ${countsOf(hidden)}`] : lines
}

/** The same for a log: one line without a bar, of any length. */
export function progressLine(row: ProgressRow): string {
  const measures = isMeasured(row) ? [percentOf(row), sizesOf(row), ...paceOf(row)] : []
  return `${row.node}: ${[wordsOf(row), ...measures].join(' ')}`
}

function lineOf(row: ProgressRow, nameWidth: number, width: number): string {
  const name = padTo(nameWidth, row.node)
  if (!isMeasured(row)) return `${name}  ${wordsOf(row)}`
  const words = padTo(wordsWidth, cutTo(wordsWidth, wordsOf(row)))
  const [rate = '', left = ''] = paceOf(row)
  const percent = percentOf(row).padStart(4)
  const numbers = `${sizesOf(row, 6)}  ${rate.padStart(8)}  ${left.padStart(4)}`
  const barWidth = width - columnsOf(`${name}  ${words}  ${percent} ▕▏ ${numbers}`)
  if (barWidth >= shortestBar)
    return `${name}  ${words}  ${percent} ${barOf(row, Math.min(longestBar, barWidth))} ${numbers}`
  // On a narrow screen the percentage matters more than the status words.
  return barWidth >= -3 ? `${name}  ${words}  ${percent} ${numbers}` : `${name}  ${percent} ${numbers}`
}

/** Whether the row gets a bar instead of words. */
function isMeasured({ state, total, error }: ProgressRow): boolean {
  return total > 0 && error === null && (state === 'running' || state === 'done')
}

function wordsOf({ state, status, error }: ProgressRow): string {
  if (error !== null) return printable(`${state}: ${error}`)
  return state === 'running' && status !== '' ? printable(status) : state
}

/** Rounded down, like the bar: only a complete row shows 100%. */
function percentOf(row: ProgressRow): string {
  return `${Math.floor(shareOf(row) * 100)}%`
}

function barOf(row: ProgressRow, width: number): string {
  const filled = Math.floor(shareOf(row) * width)
  return `▕${'█'.repeat(filled)}${' '.repeat(width - filled)}▏`
}

function shareOf({ completed, total }: ProgressRow): number {
  return Math.min(completed, total) / total
}

function sizesOf({ completed, total }: ProgressRow, width = 0): string {
  return `${bytes(completed).padStart(width)}/${bytes(total).padStart(width)}`
}

/** The rate and the remaining time; empty when nothing moves or the job has ended. */
function paceOf({ state, completed, total, rate }: ProgressRow): string[] {
  if (state !== 'running' || rate === null || rate < 1) return []
  const seconds = Math.ceil(Math.max(0, total - completed) / rate)
  return [`${bytes(Math.round(rate))}/s`, seconds < 10 ? `${seconds}s` : formatDuration(seconds * 1000)]
}

/** Running and failed rows come before finished ones. */
const interest: readonly JobState[] = ['running', 'failed', 'waiting', 'cancelled', 'done']

function byInterest(rows: readonly ProgressRow[]): ProgressRow[] {
  return rows.toSorted((a, b) => interest.indexOf(a.state) - interest.indexOf(b.state))
}

function countsOf(rows: readonly ProgressRow[]): string {
  return interest
    .map((state) => ({ state, count: rows.filter((row) => row.state === state).length }))
    .filter(({ count }) => count > 0)
    .map(({ state, count }) => `${count} ${state}`)
    .join(', ')
}
