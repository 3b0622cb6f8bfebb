import { isOver, type JobAction } from '../../fleet/job.ts'
import { keepAliveOf } from '../../fleet/keep-alive.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import { batchesOf } from '../../store/limits.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { planForgetting, planParts, stateOf } from './job-plan.ts'
import { jobIds, orphanedJobs, readJob } from './job-records.ts'
import type { JobEnding } from './node-task-answer.ts'
import { callNode } from './node-task-call.ts'
import { silenceMs } from './node-task-request.ts'
import { type AskNode, RunningJob } from './running-job.ts'

interface View {
  readonly snapshot: Snapshot
  /** Why the documents in the store are not in force; null when they are. */
  readonly suspect: string | null
  /** Everything in the store, as of `revision`. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly revision: bigint
}

interface JobRunnerOptions extends Runtime {
  /** The fence of the term. */
  readonly fence: bigint
  /** Writes as the leader. Returns the revision, or null when this instance is not the leader any more. */
  readonly guarded: (operations: readonly Operation[]) => Promise<bigint | null>
  readonly view: () => View
  /** Probes a node after its models changed. Resolves when the store has the result. */
  readonly refresh: (node: string) => Promise<void>
  readonly keys: KeyLayout
}

const periodMs = 1000
/** Milliseconds between two rounds while the informer's copy is older than the term. */
const catchUpMs = 50

/**
 * Carries out the jobs during one term. A request is recorded in the store before it is sent, and a result only after the
 * node confirmed it, so that the next leader can go on from the store.
 */
export class JobRunner {
  readonly #options: JobRunnerOptions
  readonly #loop: ControlLoop
  /** Jobs that are unfinished by the informer's copy, the oldest first. */
  readonly #jobs = new Map<string, RunningJob>()
  /** Jobs among them that were logged as ended. */
  readonly #logged = new Set<RunningJob>()
  /** Ids of unreadable records that were logged. */
  readonly #loggedUnreadable = new Set<string>()

  constructor(options: JobRunnerOptions) {
    this.#options = options
    const { clock, random } = options
    this.#loop = new ControlLoop({
      clock,
      random,
      jitter: 0,
      periodMs: () => (this.#isBehind() ? catchUpMs : periodMs),
      round: (signal) => this.#round(signal),
    })
  }

  start(): void {
    this.#loop.start()
  }

  /** Takes effect before it returns: every request ends, and none begins after it. */
  stop(): void {
    void this.#loop.stop()
    for (const job of this.#jobs.values()) job.stop()
  }

  /** Runs the next round now. */
  poke(): void {
    this.#loop.poke()
  }

  /** Whether the copy may lack the last writes of an earlier leader: it has them once it has this term's leader key. */
  #isBehind(): boolean {
    const { view, fence } = this.#options
    return view().revision < fence
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { view, log } = this.#options
    if (this.#isBehind() || view().suspect !== null) return
    this.#match(view().entries)
    this.#endUnwanted(view().entries)
    this.#plan()
    const marked = [...this.#jobs.values()].flatMap((job) => job.toBegin().map((node) => ({ job, node })))
    try {
      if (!(await this.#write()) || signal.aborted) return
      for (const { job, node } of marked) job.begin(node)
      this.#logEnds()
      await this.#deleteOld()
    } catch (error) {
      log.debug('status of jobs not written', { error })
    }
  }

  /**
   * Tracks every unfinished job. A finished job stays until its final status has been read back from the store; otherwise
   * a stale record would restart it.
   */
  #match(entries: ReadonlyMap<string, Entry>): void {
    const { keys } = this.#options
    for (const [id, job] of this.#jobs) {
      const ended = readJob(id, entries, keys)?.status?.ended
      if (entries.has(keys.job(id)) && !(this.#logged.has(job) && ended)) continue
      job.stop()
      this.#logged.delete(job)
      this.#jobs.delete(id)
    }
    for (const id of jobIds(entries, keys)) if (!this.#jobs.has(id)) this.#open(id, entries)
  }

  #open(id: string, entries: ReadonlyMap<string, Entry>): void {
    const { keys, log, view } = this.#options
    const stored = readJob(id, entries, keys)
    if (stored === null || (stored.status === null && entries.has(keys.jobState(id)))) {
      if (this.#loggedUnreadable.has(id)) return
      this.#loggedUnreadable.add(id)
      log.warn('model job ignored: its record in the store cannot be read', { job: id })
      return
    }
    if (isOver(stored.status?.state ?? 'waiting')) return
    const job = new RunningJob({
      ...this.#options,
      ...stored,
      ask: (...call) => this.#call(stored.spec.action, ...call),
      mayServe: (node) => {
        const { spec, departed = null } = view().snapshot.nodes.get(node) ?? {}
        return spec !== undefined && spec.state !== 'off' && departed === null
      },
      isLoaded: (node) => view().snapshot.nodes.get(node)?.resident.has(stored.spec.model) ?? false,
      keepAlive: (node) => {
        const { nodes, config } = view().snapshot
        return keepAliveOf(nodes.get(node)?.spec, config)
      },
      urgent: () => this.#loop.poke(),
    })
    this.#jobs.set(id, job)
  }

  /** Cancels jobs that were cancelled in the store, and fails the parts of nodes that left the fleet. */
  #endUnwanted(entries: ReadonlyMap<string, Entry>): void {
    const { keys } = this.#options
    // An agent withdraws its node while the local Ollama is down, and registers it again later.
    const isInFleet = (node: string) => entries.has(keys.node(node)) || entries.has(keys.agent(node))
    for (const job of this.#jobs.values()) {
      if (job.isOver) continue
      if (readJob(job.id, entries, keys)?.spec.cancelled) job.cancel()
      for (const node of job.open()) if (!isInFleet(node)) job.failNode(node)
    }
  }

  #plan(): void {
    const open = [...this.#jobs.values()].filter((job) => !job.isOver)
    for (const { id, node } of planParts(open)) this.#jobs.get(id)?.mark(node)
  }

  /**
   * Writes the statuses that are due. Returns false when this instance is not the leader any more. Rejects with a
   * StoreError.
   */
  async #write(): Promise<boolean> {
    const { keys, guarded } = this.#options
    const due = [...this.#jobs.values()].flatMap((job) => {
      const text = job.textToWrite()
      return text === null ? [] : [{ job, text }]
    })
    const puts = due.map(
      ({ job, text }): Operation => ({ type: 'put', key: keys.jobState(job.id), value: text }),
    )
    for (const batch of batchesOf(puts)) if ((await guarded(batch)) === null) return false
    for (const { job, text } of due) job.noteWritten(text)
    return true
  }

  #call(action: JobAction, ...[node, order, heard, signal]: Parameters<AskNode>): Promise<JobEnding> {
    const { view, clock } = this.#options
    const { nodes, config } = view().snapshot
    const spec = nodes.get(node)?.spec
    if (!spec || spec.state === 'off')
      return Promise.resolve({ kind: 'broken', error: spec ? 'its state is "off"' : 'it is not registered' })
    return callNode({
      spec,
      order,
      connectMs: config.timeouts.connect,
      silenceMs: (status) => silenceMs(action, status),
      heard,
      clock,
      signal,
    })
  }

  /** Logs each job once its end is in the store. */
  #logEnds(): void {
    const { log, metrics } = this.#options
    for (const job of this.#jobs.values()) {
      if (!job.isEndStored || this.#logged.has(job)) continue
      this.#logged.add(job)
      const { action, model } = job.spec
      const result = stateOf(job.nodes)
      metrics.jobResults.inc({ action, result })
      log.info('model job ended', { job: job.id, action, model, result })
    }
  }

  async #deleteOld(): Promise<void> {
    const { view, keys, clock, guarded } = this.#options
    const { entries } = view()
    const ended = new Map<string, number>()
    for (const id of jobIds(entries, keys)) {
      const date = readJob(id, entries, keys)?.status?.ended
      if (date) ended.set(id, Date.parse(date))
    }
    const ids = [...planForgetting(ended, clock.date().getTime()), ...orphanedJobs(entries, keys)]
    const deletes = ids.flatMap((id): Operation[] =>
      [keys.job(id), keys.jobState(id)].map((key) => ({ type: 'delete', key })),
    )
    for (const batch of batchesOf(deletes)) await guarded(batch)
  }
}
