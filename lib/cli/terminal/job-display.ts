import type { JobAnswer } from '../../api/jobs.ts'
import type { Clock } from '../../shared/clock.ts'
import { JobPace } from './job-pace.ts'
import { type ProgressRow, progressBars, progressLine } from './progress-bars.ts'
import type { Terminal } from './terminal.ts'

/** Milliseconds between two progress lines of one node, where lines cannot be redrawn. */
const lineEveryMs = 5000

/** Shows a running job: bars that are redrawn on a terminal, progress lines elsewhere. */
export class JobDisplay {
  readonly #terminal: Terminal
  readonly #clock: Clock
  readonly #paces = new Map<string, JobPace>()
  /** The last line of each node. */
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

/** A new state is shown at once, progress from time to time. */
function isNews(row: ProgressRow, told: ProgressRow, sinceMs: number): boolean {
  if (row.state !== told.state || row.error !== told.error) return true
  return sinceMs >= lineEveryMs && (row.status !== told.status || row.completed !== told.completed)
}
