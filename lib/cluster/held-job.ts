import { isOver, type JobSpec, type JobStatus, type NodeProgress } from '../fleet/job.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Dice } from '../shared/loop.ts'
import type { JobEnding, JobLine } from './job-answer.ts'
import type { JobOrder } from './job-order.ts'
import {
  type JobNodes,
  nodesToBegin,
  type OpenJob,
  stateOf,
  textOf,
  withOpen,
  withSpare,
} from './job-plan.ts'
import { JobWork, type LastWord } from './job-work.ts'

/** Asks a node once. Never rejects. */
export type AskNode = (
  node: string,
  order: JobOrder,
  heard: (line: JobLine) => void,
  signal: AbortSignal,
) => Promise<JobEnding>

interface HeldJobOptions {
  readonly id: string
  readonly spec: JobSpec
  /** How far a leader before brought it. */
  readonly status: JobStatus | null
  readonly fence: bigint
  readonly ask: AskNode
  /** Whether a spare may take the place of another node. */
  readonly mayServe: (node: string) => boolean
  /** Whether a node has the job's model in memory. */
  readonly isLoaded: (node: string) => boolean
  /** What a load says to a node of how long a model stays. */
  readonly keepAlive: (node: string) => object
  /** Called when something ended: it has to be written at once. */
  readonly urgent: () => void
  /** Resolves when the store says what the node has now: its models are not what they were. */
  readonly look: (node: string) => Promise<void>
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
}

/** Milliseconds between two writes of how far a job is. */
const paceMs = 1000
/** How long a model may stay in memory after it was to leave it, and how often the node is looked at until it has. */
const unloadMs = 10_000
const unloadLookMs = 500

/** A job that a leader carries out: how far it is, what is under way for it, and what the store knows of that. */
export class HeldJob implements OpenJob {
  readonly id: string
  readonly spec: JobSpec
  readonly #options: HeldJobOptions
  /** Nodes that a leader before may have asked. */
  readonly #asked: ReadonlySet<string>
  readonly #works = new Map<string, JobWork>()
  /** What came of nodes whose models are being looked at before it counts. */
  readonly #lastWords = new Map<string, LastWord>()
  #nodes: JobNodes
  /** ISO date. */
  #ended: string | null = null
  /** As the store has it from this leader. */
  #written: string | null = null
  #writtenAt = Number.NEGATIVE_INFINITY
  /** Counts what began and what ended: now, when a text was made last, and in the text that the store has. */
  #turn = 1
  #turnDue = 0
  #turnWritten = 0
  #isSaidToBegin = false

  constructor(options: HeldJobOptions) {
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

  /** Nodes that are to be asked, or on which something is under way. */
  open(): string[] {
    return Object.keys(this.#nodes).filter((node) => !isOver(this.#nodes[node]?.state ?? 'done'))
  }

  /** The node is to be asked as soon as the store says so. */
  mark(node: string): void {
    this.#set(node, { state: 'running' })
  }

  /** Nodes that are marked and have not been asked. */
  marked(): string[] {
    return this.open().filter((node) => this.#nodes[node]?.state === 'running' && !this.#works.has(node))
  }

  /** The text to write; null when the store has it, or has all turns and heard of the job within a second. */
  due(): string | null {
    const { clock, fence } = this.#options
    if (this.#turn === this.#turnWritten && clock.now() - this.#writtenAt < paceMs) return null
    const state = stateOf(this.#nodes)
    if (isOver(state)) this.#ended ??= clock.date().toISOString()
    const text = textOf({ fence: String(fence), state, ended: this.#ended, nodes: this.#nodes })
    this.#turnDue = this.#turn
    if (text !== this.#written) return text
    this.#turnWritten = this.#turn
    return null
  }

  /** The store has the text that `due` gave last. */
  written(text: string): void {
    this.#written = text
    this.#turnWritten = this.#turnDue
    this.#writtenAt = this.#options.clock.now()
  }

  /** Whether the store has how it ended. */
  get isConcluded(): boolean {
    return this.#ended !== null && this.#turn === this.#turnWritten
  }

  /** Asks a node that is marked. */
  begin(node: string): void {
    const { id, spec } = this
    const { ask, isLoaded, keepAlive, clock, dice, log } = this.#options
    const begun = this.#nodes[node]
    if (!begun) return
    const { action, model, nodes, tenant } = spec
    if (!this.#isSaidToBegin) log.info('model job begun', { job: id, action, model, nodes, tenant })
    this.#isSaidToBegin = true
    const work = new JobWork({
      spec,
      begun,
      wasAsked: this.#asked.has(node),
      stay: () => (isLoaded(node) ? {} : keepAlive(node)),
      ask: (order, heard, signal) => ask(node, order, heard, signal),
      clock,
      dice,
      changed: (progress) => {
        this.#nodes = { ...this.#nodes, [node]: progress }
      },
      ended: (last) => void this.#end(node, last),
    })
    this.#works.set(node, work)
    work.start()
  }

  /** Every request is cut off; what is done stays done. */
  cancel(): void {
    for (const node of this.#lastWords.keys()) this.#conclude(node)
    const asked = [...this.#works.keys()]
    this.stop()
    this.#works.clear()
    this.#nodes = withOpen(this.#nodes, { state: 'cancelled', error: null })
    this.#hurry()
    for (const node of asked) void this.#options.look(node)
  }

  /** A node is none of the fleet's any more. */
  lose(node: string): void {
    this.#works.get(node)?.stop()
    const error = 'it is not in the fleet any more'
    this.#lastWords.set(node, { kind: 'refused', error, code: null, isDiskFull: false })
    this.#conclude(node)
  }

  /** Takes effect before it returns. Safe to call twice. */
  stop(): void {
    for (const work of this.#works.values()) work.stop()
    this.#lastWords.clear()
  }

  /** Whoever hears that a model was pulled or deleted uses it, or lists them, at once: so that has to be known first. */
  async #end(node: string, last: LastWord): Promise<void> {
    this.#lastWords.set(node, last)
    await this.#options.look(node)
    if (this.spec.action === 'unload' && last.kind === 'done') await this.#untilUnloaded(node, last)
    this.#conclude(node)
  }

  /** Ollama says "unload" at once, and unloads when what runs is done (its expireRunner in server/sched.go). */
  async #untilUnloaded(node: string, done: LastWord): Promise<void> {
    const { clock, look, isLoaded } = this.#options
    const until = clock.now() + unloadMs
    while (isLoaded(node) && this.#lastWords.get(node) === done) {
      if (clock.now() >= until) {
        const error = 'it is still in use there, and is unloaded when its requests are done'
        this.#lastWords.set(node, { kind: 'refused', error, code: 409, isDiskFull: false })
        return
      }
      await clock.sleep(unloadLookMs)
      await look(node)
    }
  }

  #conclude(node: string): void {
    const last = this.#lastWords.get(node)
    if (!last) return
    this.#lastWords.delete(node)
    this.#works.delete(node)
    if (last.kind === 'done') this.#set(node, { state: 'done', error: null })
    else {
      this.#set(node, { state: 'failed', error: last.error, code: last.code })
      this.#sayFailed(node, last.error)
      if (last.isDiskFull) this.#nodes = withSpare(this, node, this.#options.mayServe)
    }
  }

  #set(node: string, change: Partial<NodeProgress>): void {
    const progress = this.#nodes[node]
    if (progress) this.#nodes = { ...this.#nodes, [node]: { ...progress, ...change } }
    this.#hurry()
  }

  #hurry(): void {
    this.#turn++
    this.#options.urgent()
  }

  #sayFailed(node: string, reason: string): void {
    const { action, model } = this.spec
    this.#options.log.warn('model job failed on a node', { job: this.id, action, model, node, reason })
  }
}
