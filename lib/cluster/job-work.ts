import type { JobSpec, NodeProgress } from '../fleet/job.ts'
import type { Clock } from '../shared/clock.ts'
import type { Dice } from '../shared/loop.ts'
import { type JobEnding, type JobLine, mayRecover, progressAfter } from './job-answer.ts'
import { type JobOrder, ordersOf } from './job-order.ts'

/** How a node's part of a job may end. */
export type LastWord = Extract<JobEnding, { readonly kind: 'done' | 'refused' }>

interface JobWorkOptions {
  readonly spec: JobSpec
  /** How far the node was when a leader asked last. */
  readonly begun: NodeProgress
  /** Whether the node may have been asked already, by a leader before. */
  readonly wasAsked: boolean
  /** What a load says to the node of how long the model stays. */
  readonly stay: () => object
  /** Asks the node once; never rejects. */
  readonly ask: (order: JobOrder, heard: (line: JobLine) => void, signal: AbortSignal) => Promise<JobEnding>
  readonly clock: Clock
  readonly dice: Dice
  /** Called with each sign of life, and with what the work waits for. */
  readonly changed: (progress: NodeProgress) => void
  /** Called once, unless the work is stopped before. */
  readonly ended: (last: LastWord) => void
}

/** Milliseconds without any progress after which a node is given up. */
const patienceMs = 600_000
/** Pauses between tries, in milliseconds: they double, and vary by a fifth. */
const firstPauseMs = 500
const longestPauseMs = 30_000
/** Things a node may say that count as progress: what it makes up beyond that does not. */
const maxMarks = 1000

/**
 * One node's part of a job: asks until it is done, refused, or nothing has moved for too long. A pull goes on from what
 * the node has already (docs/ollama.md#model-management), so asking again is how it is resumed.
 */
export class JobWork {
  readonly #options: JobWorkOptions
  readonly #stopping = new AbortController()
  /** The furthest the node got, by digest or status. */
  readonly #marks = new Map<string, number>()
  /** What this try has spoken of. */
  readonly #met = new Set<string>()
  #progress: NodeProgress
  #progressAt: number
  #wasAsked: boolean
  #wasBroken = true
  #tries = 0

  constructor(options: JobWorkOptions) {
    this.#options = options
    this.#progress = options.begun
    this.#wasAsked = options.wasAsked
    this.#progressAt = options.clock.now()
  }

  start(): void {
    void this.#run(this.#stopping.signal)
  }

  /** Takes effect before it returns: the request is cut off, and nothing more is told. Safe to call twice. */
  stop(): void {
    this.#stopping.abort()
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, dice, ended } = this.#options
    for (;;) {
      const ending = await this.#try(signal)
      if (signal.aborted) return
      const last = this.#lastWord(ending)
      if (last) return ended(last)
      this.#wasAsked = true
      this.#wasBroken = ending.kind === 'broken'
      const ms = Math.min(longestPauseMs, firstPauseMs * 2 ** this.#tries++)
      await clock.sleep(ms * (0.8 + 0.4 * dice()), signal).catch(() => {})
      if (signal.aborted) return
    }
  }

  async #try(signal: AbortSignal): Promise<JobEnding> {
    const { spec, stay, ask } = this.#options
    const [order, fallback] = ordersOf(spec, stay())
    const heard = (line: JobLine) => !signal.aborted && this.#hear(line)
    this.#met.clear()
    const ending = await ask(order, heard, signal)
    if (!fallback || signal.aborted || !isBadRequest(ending)) return ending
    const other = await ask(fallback, heard, signal)
    return isBadRequest(other) ? ending : other
  }

  #hear(line: JobLine): void {
    this.#progress = progressAfter(this.#progress, line)
    this.#mark(line.digest ?? line.status ?? '', line.completed)
    this.#options.changed(this.#progress)
  }

  #mark(what: string, completed: number): void {
    const furthest = this.#marks.get(what)
    if (furthest === undefined && this.#marks.size >= maxMarks) return
    const isFurther = furthest === undefined || completed > furthest
    // A node that was restarted has forgotten what it had in part; one that threw away a download will do so again.
    const isFromAnew = this.#wasBroken && !this.#met.has(what)
    if (isFurther || isFromAnew) this.#marks.set(what, completed)
    this.#met.add(what)
    if (!isFurther) return
    this.#progressAt = this.#options.clock.now()
    this.#tries = 0
  }

  /**
   * A transfer that has spoken of a layer has its manifest, and asking again resumes it. Before that there is nothing to
   * resume: the registry is out of reach, or does not know the name, and the caller should hear so at once.
   */
  get #hasBegun(): boolean {
    return Object.keys(this.#progress.layers).length > 0
  }

  /** What the node's part ends with; null when it is worth another try. */
  #lastWord(ending: JobEnding): LastWord | null {
    const { spec, clock, changed } = this.#options
    if (ending.kind === 'done') return ending
    // What we asked for before the connection broke has been done.
    if (spec.action === 'delete' && this.#wasAsked && codeIn(ending) === 404) return { kind: 'done' }
    if (ending.kind === 'refused') return ending
    const { error } = ending
    const refused = { kind: 'refused', error, code: codeIn(ending), isDiskFull: false } as const
    if (ending.kind === 'failed' && !(this.#hasBegun && mayRecover(spec.action, error))) return refused
    if (clock.now() - this.#progressAt >= patienceMs)
      return { ...refused, error: `no progress for ${patienceMs / 60_000} minutes: ${error}` }
    this.#progress = { ...this.#progress, error: `trying again: ${error}` }
    changed(this.#progress)
    return null
  }
}

function isBadRequest(ending: JobEnding): boolean {
  return codeIn(ending) === 400
}

function codeIn(ending: JobEnding): number | null {
  return 'code' in ending ? ending.code : null
}
