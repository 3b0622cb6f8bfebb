import type { JobSpec, NodeProgress } from '../../fleet/job.ts'
import { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Random } from '../../shared/random.ts'
import { type JobEnding, type JobLine, mayRecover, progressAfter } from './node-task-answer.ts'
import { type NodeTaskRequest, ordersOf } from './node-task-request.ts'

/** A final result of one node. */
export type FinalResult = Extract<JobEnding, { readonly kind: 'done' | 'refused' }>

interface NodeTaskOptions {
  readonly spec: JobSpec
  /** Progress of the node when a leader asked it last. */
  readonly begun: NodeProgress
  /** Whether an earlier leader may have asked the node already. */
  readonly wasAsked: boolean
  /** The keep_alive fields of a load. */
  readonly keepAlive: () => object
  /** Sends one request to the node. Never rejects. */
  readonly ask: (
    order: NodeTaskRequest,
    heard: (line: JobLine) => void,
    signal: AbortSignal,
  ) => Promise<JobEnding>
  readonly clock: Clock
  readonly random: Random
  /** Called with each progress, and with the reason of each retry. */
  readonly changed: (progress: NodeProgress) => void
  /** Called once with the final result, unless the task is stopped before. */
  readonly ended: (result: FinalResult) => void
}

/** Milliseconds without progress after which the node's part of the job fails. */
const patienceMs = 600_000
/** Pauses between retries, in milliseconds. */
const pauses = { baseMs: 500, maxMs: 30_000 }
/** Distinct digests and statuses that count as progress: a node cannot extend a job for ever by inventing more. */
const maxMarks = 1000

/**
 * One node's part of a job: sends requests until the node is done, refuses, or makes no progress for too long. A pull
 * that is requested again resumes from what the node already has (docs/ollama.md#model-management).
 */
export class NodeTask {
  readonly #options: NodeTaskOptions
  readonly #stopping = new AbortController()
  /** The furthest the node got, by digest or status. */
  readonly #furthest = new Map<string, number>()
  /** Digests and statuses that appeared in this try. */
  readonly #seen = new Set<string>()
  #progress: NodeProgress
  #progressAt: number
  #wasAsked: boolean
  #wasBroken = true
  readonly #backoff: Backoff

  constructor(options: NodeTaskOptions) {
    this.#options = options
    this.#backoff = new Backoff({ ...pauses, random: options.random })
    this.#progress = options.begun
    this.#wasAsked = options.wasAsked
    this.#progressAt = options.clock.now()
  }

  start(): void {
    void this.#run(this.#stopping.signal)
  }

  /** Takes effect before it returns: the request ends, and no callback is called after it. Safe to call twice. */
  stop(): void {
    this.#stopping.abort()
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, ended } = this.#options
    for (;;) {
      const ending = await this.#try(signal)
      if (signal.aborted) return
      const result = this.#resultOf(ending)
      if (result) return ended(result)
      this.#wasAsked = true
      this.#wasBroken = ending.kind === 'broken'
      await clock.sleep(this.#backoff.next(), signal).catch(() => {})
      if (signal.aborted) return
    }
  }

  async #try(signal: AbortSignal): Promise<JobEnding> {
    const { spec, keepAlive, ask } = this.#options
    const [order, fallback] = ordersOf(spec, keepAlive())
    const heard = (line: JobLine) => !signal.aborted && this.#hear(line)
    this.#seen.clear()
    const ending = await ask(order, heard, signal)
    if (!fallback || signal.aborted || !isBadRequest(ending)) return ending
    const other = await ask(fallback, heard, signal)
    return isBadRequest(other) ? ending : other
  }

  #hear(line: JobLine): void {
    this.#progress = progressAfter(this.#progress, line)
    this.#noteProgress(line.digest ?? line.status ?? '', line.completed)
    this.#options.changed(this.#progress)
  }

  #noteProgress(what: string, completed: number): void {
    const furthest = this.#furthest.get(what)
    if (furthest === undefined && this.#furthest.size >= maxMarks) return
    const isFurther = furthest === undefined || completed > furthest
    // A restarted node lost its partial download, so its count starts again; a node that drops a download by itself gets
    // no credit.
    const isFromStart = this.#wasBroken && !this.#seen.has(what)
    if (isFurther || isFromStart) this.#furthest.set(what, completed)
    this.#seen.add(what)
    if (!isFurther) return
    this.#progressAt = this.#options.clock.now()
    this.#backoff.reset()
  }

  /**
   * Whether the transfer reported a layer: then the node has the manifest, and a retry resumes. Before that the registry
   * is out of reach or does not know the name, and the caller should learn that at once.
   */
  get #hasBegun(): boolean {
    return Object.keys(this.#progress.layers).length > 0
  }

  /** The final result of the node; null when the request is to be retried. */
  #resultOf(ending: JobEnding): FinalResult | null {
    const { spec, clock, changed } = this.#options
    if (ending.kind === 'done') return ending
    // The request before the connection broke has deleted the model.
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
