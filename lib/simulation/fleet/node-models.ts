import { ollamaDefaults } from '../ollama-model/defaults.ts'
import { type RunnerEvent, type RunnerHost, RunnerScheduler } from '../ollama-model/runner-scheduler.ts'
import type { SharedGpu } from '../ollama-model/shared-gpu.ts'
import type { NodeAttempt } from './attempt.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import { StreamRunner } from './stream-runner.ts'
import type { Timeline } from './timeline.ts'

/** Seconds of a load that are not reading from the disk. */
const startTime = 1

interface NodeModelsOptions {
  readonly timeline: Timeline
  readonly gpu: SharedGpu
  readonly plan: FleetPlan
  readonly node: PlannedNode
  /** On the node's disk, by name. */
  readonly models: ReadonlyMap<string, PlannedModel>
  readonly speed: number
}

/** Which models of a node are in memory: the model of Ollama on the rehearsal's timeline. Memory is in bytes. */
export class NodeModels {
  readonly #options: NodeModelsOptions
  readonly #scheduler: RunnerScheduler<NodeAttempt, StreamRunner>
  /** Each runs again whenever the memory of a runner is free. */
  readonly #unloadChecks = new Set<() => void>()
  #loads = { all: 0, unordered: 0 }

  constructor(options: NodeModelsOptions) {
    const { timeline, node } = options
    this.#options = options
    this.#scheduler = new RunnerScheduler(
      {
        clock: timeline.clock,
        memory: node.memory,
        heldMemory: 0,
        mostLoaded: node.maxLoaded,
        mostPending: ollamaDefaults.maxQueue,
        recoveryTime: ollamaDefaults.recoveryS,
        // No model of a rehearsal runs on the CPU, so a load has to wait for its memory.
        countsUnloading: true,
      },
      this.#host(),
    )
  }

  /** Loads so far, and those that no swap ordered. */
  get loads(): { readonly all: number; readonly unordered: number } {
    return this.#loads
  }

  /** Models in memory, as `/api/ps` lists them: not while they load. */
  get resident(): string[] {
    return this.#scheduler.runners.map(({ name }) => name)
  }

  /** Serves the attempt at once if its model is in memory, else queues it for a load. */
  admit(attempt: NodeAttempt): void {
    if (this.#scheduler.serveLoaded(attempt)) return
    attempt.leave = () => this.#scheduler.giveUp(attempt)
    if (!this.#scheduler.enqueue(attempt)) attempt.options.onBusy()
  }

  /** Puts a model in memory at once. */
  preload(attempt: NodeAttempt): void {
    this.#scheduler.preload(attempt)
  }

  /** Requests for a model that have not ended, without loads. */
  requests(model: string): number {
    const { waiting, runners } = this.#scheduler
    const pending = waiting.filter(({ key, options }) => key === model && options.promptTokens > 0).length
    return pending + (runners.find(({ name }) => name === model)?.requests ?? 0)
  }

  /** Unloads models once they are idle. */
  unload(models: readonly string[]): void {
    for (const name of models) this.#scheduler.unload(name)
  }

  /**
   * Unloads the victims once they are idle; calls `done` when their memory is free, or with those that are still in memory
   * after `limitS`.
   */
  clear(victims: readonly string[], limitS: number, done: (kept: readonly string[]) => void): void {
    const end = (kept: readonly string[]) => {
      if (this.#unloadChecks.delete(check)) done(kept)
    }
    const check = () => {
      if (!victims.some((name) => this.#scheduler.holds(name))) end([])
    }
    this.#unloadChecks.add(check)
    this.unload(victims)
    check()
    this.#options.timeline.after(limitS, () => {
      const kept = victims.filter((name) => this.resident.includes(name))
      if (kept.length > 0) end(kept)
    })
  }

  /** The node died: returns all its attempts. */
  abandon(): NodeAttempt[] {
    const { waiting, runners } = this.#scheduler
    const onRunners = runners.flatMap((runner) => runner.abandon())
    this.#scheduler.stop()
    for (const check of this.#unloadChecks) check()
    return [...waiting, ...onRunners]
  }

  #host(): RunnerHost<NodeAttempt, StreamRunner> {
    const { timeline, node, gpu, plan, speed } = this.#options
    return {
      // Attempts of a rehearsal have no options, so nothing is reloaded.
      serves: () => true,
      fits: (attempt, free) => footprint(this.#modelOf(attempt)) <= free,
      memoryFor: (attempt) => footprint(this.#modelOf(attempt)),
      loadTime: (attempt) => startTime + this.#modelOf(attempt).size / node.disk,
      start: (attempt, _memory, onExpired) =>
        new StreamRunner({
          timeline,
          gpu,
          plan,
          node,
          speed,
          model: this.#modelOf(attempt),
          keepAlive: ollamaDefaults.keepAliveS,
          onExpired,
        }),
      onReady: (attempt, runner) => runner.take(attempt),
      onEvent: (event) => this.#note(event),
    }
  }

  #note(event: RunnerEvent<NodeAttempt, StreamRunner>): void {
    if (event.type === 'loading') {
      this.#loads.all++
      if (event.request.options.promptTokens > 0) this.#loads.unordered++
    } else if (event.type === 'unloaded') for (const check of this.#unloadChecks) check()
  }

  #modelOf({ key }: NodeAttempt): PlannedModel {
    const model = this.#options.models.get(key)
    if (!model) throw new Error(`model ${key} is not on the disk of node ${this.#options.node.name}`)
    return model
  }
}
