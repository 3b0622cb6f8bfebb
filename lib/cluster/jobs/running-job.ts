import { isOver, type JobSpec, type JobStatus, type NodeProgress } from '../../fleet/job.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Random } from '../../shared/random.ts'
import {
  type JobNodes,
  nodesToBegin,
  type OpenJob,
  stateOf,
  textOf,
  withOpen,
  withSpare,
} from './job-plan.ts'
import { type FinalResult, NodeTask } from './node-task.ts'
import type { JobEnding, JobLine } from './node-task-answer.ts'
import type { NodeTaskRequest } from './node-task-request.ts'

/** Sends one request to a node. Never rejects. */
export type AskNode = (
  node: string,
  order: NodeTaskRequest,
  heard: (line: JobLine) => void,
  signal: AbortSignal,
) => Promise<JobEnding>

interface RunningJobOptions {
  readonly id: string
  readonly spec: JobSpec
  /** The status that an earlier leader wrote. */
  readonly status: JobStatus | null
  readonly fence: bigint
  readonly ask: AskNode
  /** Whether a spare may replace another node. */
  readonly mayServe: (node: string) => boolean
  /** Whether a node has the job's model in memory. */
  readonly isLoaded: (node: string) => boolean
  /** The keep_alive fields of a load on a node. */
  readonly keepAlive: (node: string) => object
  /** Called when the status has to be written at once. */
  readonly urgent: () => void
  /** Probes a node after its models changed. Resolves when the store has the result. */
  readonly refresh: (node: string) => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Milliseconds between two writes of progress. */
const paceMs = 1000
/** Milliseconds for which an unload may take, and between two probes of the node meanwhile. */
const unloadMs = 10_000
const unloadLookMs = 500

/**
 * A job that the leader carries out: its progress, the tasks under way on nodes, and which part of that is in the store.
 */
export class RunningJob implements OpenJob {
  readonly id: string
  readonly spec: JobSpec
  readonly #options: RunningJobOptions
  /** Nodes that an earlier leader may have asked. */
  readonly #asked: ReadonlySet<string>
  readonly #tasks = new Map<string, NodeTask>()
  /** Final results of nodes that are probed before the result counts. */
  readonly #results = new Map<string, FinalResult>()
  #nodes: JobNodes
  /** ISO date. */
  #ended: string | null = null
  /** The text in the store, if this leader wrote it. */
  #written: string | null = null
  #writtenAt = Number.NEGATIVE_INFINITY
  /** Counts begins and ends of tasks: now, in the text that was made last, and in the text that is in the store. */
  #version = 1
  #versionDue = 0
  #versionWritten = 0
  #hasLoggedBegin = false

  constructor(options: RunningJobOptions) {
    const { id, spec, status } = options
    this.id = id
    this.spec = spec
    this.#options = options
    this.#nodes = nodesToBegin(spec, status)
    const nodes = Object.entries(status?.nodes ?? {})
    this.#asked = new Set(nodes.flatMap(([name, { state }]) => (state === 'running' ? [name] : [])))
  }

  get nodes(): JobNodes {
    return this.#nodes
  }

  get isOver(): boolean {
    return isOver(stateOf(this.#nodes))
  }

  /** The unfinished nodes. */
  open(): string[] {
    return Object.keys(this.#nodes).filter((node) => !isOver(this.#nodes[node]?.state ?? 'done'))
  }

  /** Marks the node as running. Its task begins once the store has that. */
  mark(node: string): void {
    this.#set(node, { state: 'running' })
  }

  /** Nodes that are marked and have no task yet. */
  toBegin(): string[] {
    return this.open().filter((node) => this.#nodes[node]?.state === 'running' && !this.#tasks.has(node))
  }

  /**
   * The status to write; null when the store has it, or when only progress changed and the last write is less than a
   * second ago.
   */
  textToWrite(): string | null {
    const { clock, fence } = this.#options
    if (this.#version === this.#versionWritten && clock.now() - this.#writtenAt < paceMs) return null
    const state = stateOf(this.#nodes)
    if (isOver(state)) this.#ended ??= clock.date().toISOString()
    const text = textOf({ fence: String(fence), state, ended: this.#ended, nodes: this.#nodes })
    this.#versionDue = this.#version
    if (text !== this.#written) return text
    this.#versionWritten = this.#version
    return null
  }

  /** Called when the store has the text that `due` returned last. */
  noteWritten(text: string): void {
    this.#written = text
    this.#versionWritten = this.#versionDue
    this.#writtenAt = this.#options.clock.now()
  }

  /** Whether the final status is in the store. */
  get isEndStored(): boolean {
    return this.#ended !== null && this.#version === this.#versionWritten
  }

  /** Begins the task of a node that is marked. */
  begin(node: string): void {
    const { id, spec } = this
    const { ask, isLoaded, keepAlive, clock, random, log } = this.#options
    const begun = this.#nodes[node]
    if (!begun) return
    const { action, model, nodes, tenant } = spec
    if (!this.#hasLoggedBegin) log.info('model job begun', { job: id, action, model, nodes, tenant })
    this.#hasLoggedBegin = true
    const task = new NodeTask({
      spec,
      begun,
      wasAsked: this.#asked.has(node),
      keepAlive: () => (isLoaded(node) ? {} : keepAlive(node)),
      ask: (order, heard, signal) => ask(node, order, heard, signal),
      clock,
      random,
      changed: (progress) => {
        this.#nodes = { ...this.#nodes, [node]: progress }
      },
      ended: (result) => void this.#end(node, result),
    })
    this.#tasks.set(node, task)
    task.start()
  }

  /** Ends every request. What a node has done stays done. */
  cancel(): void {
    for (const node of this.#results.keys()) this.#conclude(node)
    const asked = [...this.#tasks.keys()]
    this.stop()
    this.#tasks.clear()
    this.#nodes = withOpen(this.#nodes, { state: 'cancelled', error: null })
    this.#changed()
    for (const node of asked) void this.#options.refresh(node)
  }

  /** Fails the part of a node that left the fleet. */
  failNode(node: string): void {
    this.#tasks.get(node)?.stop()
    const error = 'it is not in the fleet any more'
    this.#results.set(node, { kind: 'refused', error, code: null, isDiskFull: false })
    this.#conclude(node)
  }

  /** Takes effect before it returns. Safe to call twice. */
  stop(): void {
    for (const task of this.#tasks.values()) task.stop()
    this.#results.clear()
  }

  /** Probes the node before its result counts: a caller uses or lists the models right after the job has ended. */
  async #end(node: string, result: FinalResult): Promise<void> {
    this.#results.set(node, result)
    await this.#options.refresh(node)
    if (this.spec.action === 'unload' && result.kind === 'done') await this.#untilUnloaded(node, result)
    this.#conclude(node)
  }

  /** Ollama answers an unload at once, but unloads after the running requests (expireRunner in server/sched.go). */
  async #untilUnloaded(node: string, done: FinalResult): Promise<void> {
    const { clock, refresh, isLoaded } = this.#options
    const until = clock.now() + unloadMs
    while (isLoaded(node) && this.#results.get(node) === done) {
      if (clock.now() >= until) {
        const error = 'the model is still in use there; Ollama unloads it when its requests are done'
        this.#results.set(node, { kind: 'refused', error, code: 409, isDiskFull: false })
        return
      }
      await clock.sleep(unloadLookMs)
      await refresh(node)
    }
  }

  #conclude(node: string): void {
    const result = this.#results.get(node)
    if (!result) return
    this.#results.delete(node)
    this.#tasks.delete(node)
    if (result.kind === 'done') this.#set(node, { state: 'done', error: null })
    else {
      this.#set(node, { state: 'failed', error: result.error, code: result.code })
      this.#logFailure(node, result.error)
      if (result.isDiskFull) this.#nodes = withSpare(this, node, this.#options.mayServe)
    }
  }

  #set(node: string, change: Partial<NodeProgress>): void {
    const progress = this.#nodes[node]
    if (progress) this.#nodes = { ...this.#nodes, [node]: { ...progress, ...change } }
    this.#changed()
  }

  #changed(): void {
    this.#version++
    this.#options.urgent()
  }

  #logFailure(node: string, reason: string): void {
    const { action, model } = this.spec
    this.#options.log.warn('model job failed on a node', { job: this.id, action, model, node, reason })
  }
}
