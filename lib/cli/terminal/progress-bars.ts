import type { JobState } from '../../fleet/job.ts'
import { formatDuration } from '../../shared/duration.ts'
import { bytes } from './format.ts'

/** How far a job is on one node. */
export interface ProgressRow {
  readonly node: string
  readonly state: JobState
  /** The node's last word. */
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

/** Of "pulling" and as much of a digest as Ollama shows. It does not vary, so that the bars stay where they are. */
const wordsWidth = 20
const shortestBar = 8
const longestBar = 50

/**
 * One line per node in the look of `ollama pull`: none is wider than the screen, and together they leave two rows of it
 * free, since what has scrolled away cannot be drawn again. Nodes for which no row is left are counted in the last line.
 */
export function progressBars(rows: readonly ProgressRow[], screen: Screen): string[] {
  const room = Math.max(2, screen.rows - 2)
  const shown = rows.length <= room ? rows : byInterest(rows).slice(0, room - 1)
  const nameWidth = Math.max(0, ...shown.map(({ node }) => node.length))
  const width = screen.columns - 1
  const lines = shown.map((row) => lineOf(row, nameWidth, width).slice(0, width).trimEnd())
  const hidden = rows.filter((row) => !shown.includes(row))
  return hidden.length > 0 ? [...lines, `and ${hidden.length} more: ${countsOf(hidden)}`] : lines
}

/** The same as one line of a log: without a bar, and as long as it gets. */
export function progressLine(row: ProgressRow): string {
  const measures = isMeasured(row) ? [percentOf(row), sizesOf(row), ...paceOf(row)] : []
  return `${row.node}: ${[wordsOf(row), ...measures].join(' ')}`
}

function lineOf(row: ProgressRow, nameWidth: number, width: number): string {
  const name = row.node.padEnd(nameWidth)
  if (!isMeasured(row)) return `${name}  ${wordsOf(row)}`
  const words = wordsOf(row).slice(0, wordsWidth).padEnd(wordsWidth)
  const [rate = '', left = ''] = paceOf(row)
  const percent = percentOf(row).padStart(4)
  const numbers = `${sizesOf(row, 6)}  ${rate.padStart(8)}  ${left.padStart(4)}`
  const barWidth = width - `${name}  ${words}  ${percent} ▕▏ ${numbers}`.length
  if (barWidth >= shortestBar)
    return `${name}  ${words}  ${percent} ${barOf(row, Math.min(longestBar, barWidth))} ${numbers}`
  // Where it is narrow, how far it is matters more than with what.
  return barWidth >= -3 ? `${name}  ${words}  ${percent} ${numbers}` : `${name}  ${percent} ${numbers}`
}

/** Whether a bar says more about it than words. */
function isMeasured({ state, total, error }: ProgressRow): boolean {
  return total > 0 && error === null && (state === 'running' || state === 'done')
}

function wordsOf({ state, status, error }: ProgressRow): string {
  if (error !== null) return `${state}: ${error}`
  return state === 'running' && status !== '' ? status : state
}

/** Rounded down, as the bar is: 100% is said only of what is complete. */
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

/** How fast it goes and how long it will take; empty when it stands still or is over. */
function paceOf({ state, completed, total, rate }: ProgressRow): string[] {
  if (state !== 'running' || rate === null || rate < 1) return []
  const seconds = Math.ceil(Math.max(0, total - completed) / rate)
  return [`${bytes(Math.round(rate))}/s`, seconds < 10 ? `${seconds}s` : formatDuration(seconds * 1000)]
}

/** What changes, and what went wrong, before what does not change any more. */
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
