import { styleText } from 'node:util'
import { columnsOf, cutTo, padTo } from './columns.ts'

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  readonly align?: 'right'
  /** Shown only with `-o wide`. */
  readonly wide?: true
}

export interface TableLook {
  readonly wide: boolean
  readonly colour: boolean
  /** Columns of the terminal; null when the output is piped: cells are not cut then. */
  readonly width: number | null
}

const gap = '  '
const narrowest = 12

/** Aligned rows under a header, without borders, like `ollama ls` and `kubectl get`. Ends with a newline. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], look: TableLook): string {
  const shown = columns.filter((column) => look.wide || !column.wide)
  const cells = rows.map((row) => shown.map((column) => printable(column.cell(row))))
  const widths = fit(
    shown.map((column, at) =>
      Math.max(column.title.length, ...cells.map((line) => columnsOf(line[at] ?? ''))),
    ),
    look.width,
  )
  const lineOf = (texts: readonly string[], colour: boolean) =>
    texts
      .map((text, at) => {
        const padded = pad(text, widths[at] ?? 0, shown[at]?.align)
        return colour ? tint(padded) : padded
      })
      .join(gap)
      .trimEnd()
  const header = lineOf(
    shown.map((column) => column.title),
    false,
  )
  return `${[header, ...cells.map((line) => lineOf(line, look.colour))].join('\n')}\n`
}

/** `name  value` lines for one object. Empty values are shown as "-". Ends in a newline. */
export function facts(pairs: readonly (readonly [name: string, value: string])[], colour: boolean): string {
  const width = Math.max(...pairs.map(([name]) => columnsOf(printable(name))))
  return pairs
    .map(([name, value]) => {
      const text = printable(value) || '-'
      return `${padTo(width, printable(name))}${gap}${colour ? tint(text) : text}\n`
    })
    .join('')
}

/** Foreign text without control and formatting characters: a name must not send commands to the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}

/** Cuts only the widest column when the rows would wrap. */
function fit(widths: readonly number[], limit: number | null): number[] {
  const total = widths.reduce((sum, width) => sum + width, 0) + gap.length * (widths.length - 1)
  if (limit === null || total <= limit) return [...widths]
  const widest = widths.indexOf(Math.max(...widths))
  return widths.map((width, at) => (at === widest ? Math.max(narrowest, width - (total - limit)) : width))
}

function pad(text: string, width: number, align: 'right' | undefined): string {
  return padTo(width, columnsOf(text) > width ? `${cutTo(width - 1, text)}…` : text, align)
}

const tones = {
  up: 'green',
  ok: 'green',
  active: 'green',
  done: 'green',
  cordoned: 'yellow',
  draining: 'yellow',
  unknown: 'yellow',
  waiting: 'yellow',
  slow: 'yellow',
  rejected: 'red',
  down: 'red',
  departed: 'red',
  failed: 'red',
  off: 'gray',
  cancelled: 'gray',
} as const

/** Colours a cell by the state word at its start. Colour only repeats the word: output without colour says the same. */
function tint(text: string): string {
  const word = /^[a-z]+(?![\w-])/i.exec(text)?.[0].toLowerCase() ?? ''
  const tone = Object.hasOwn(tones, word) ? tones[word as keyof typeof tones] : null
  return tone ? styleText(tone, text, { validateStream: false }) : text
}
