import type { JobAnswer } from '../../api/jobs.ts'
import type { Clock } from '../../shared/clock.ts'
import { JobPace } from './pace.ts'
import { type ProgressRow, progressBars, progressLine } from './progress-bars.ts'
import type { Terminal } from './terminal.ts'

/** Milliseconds between two lines about one node that say nothing but how far it is, where they cannot be redrawn. */
const lineEveryMs = 5000

/** A job under way before the operator's eyes: bars that are redrawn on a terminal, a line now and then elsewhere. */
export class JobDisplay {
  readonly #terminal: Terminal
  readonly #clock: Clock
  readonly #paces = new Map<string, JobPace>()
  /** By node: what its last line was about. */
  readonly #told = new Map<string, { readonly at: number; readonly row: ProgressRow }>()

  constructor(terminal: Terminal, clock: Clock) {
    this.#terminal = terminal
    this.#clock = clock
  }

  show({ nodes }: JobAnswer): void {
    const rows = Object.entries(nodes).map(([node, report]) => {
      const pace = this.#paces.get(node) ?? new JobPace()
      this.#paces.set(node, pace)
      pace.observe(this.#clock.now(), report.completed)
      return { node, ...report, rate: pace.rate }
    })
    const { screen } = this.#terminal
    if (screen) this.#terminal.redraw(progressBars(rows, screen))
    else for (const row of rows) this.#tell(row)
  }

  #tell(row: ProgressRow): void {
    const now = this.#clock.now()
    const told = this.#told.get(row.node)
    if (told && !isNews(row, told.row, now - told.at)) return
    this.#told.set(row.node, { at: now, row })
    this.#terminal.progress(progressLine(row))
  }
}

/** That it is in another state is told at once, how it gets on from time to time. */
function isNews(row: ProgressRow, told: ProgressRow, sinceMs: number): boolean {
  if (row.state !== told.state || row.error !== told.error) return true
  return sinceMs >= lineEveryMs && (row.status !== told.status || row.completed !== told.completed)
}
