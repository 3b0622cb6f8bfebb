import type { RehearsedAttempt } from './attempt.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'
import type { RehearsedGpu } from './gpu.ts'
import { RehearsedRunner } from './runner.ts'
import type { Timeline } from './timeline.ts'

/** `OLLAMA_MAX_QUEUE`. */
const pendingLimit = 512
/** `OLLAMA_KEEP_ALIVE`, seconds. */
const keepAlive = 300
/** Seconds until the memory of a runner that ended is free. */
const settleTime = 0.8
/** Seconds of a load that are not reading from the disk. */
const startTime = 1

interface LoaderOptions {
  readonly timeline: Timeline
  readonly gpu: RehearsedGpu
  readonly plan: FleetPlan
  readonly node: PlannedNode
  readonly speed: number
}

interface Wanted {
  readonly attempt: RehearsedAttempt
  readonly model: PlannedModel
}

/**
 * Which models are in memory: Ollama's loop (docs/ollama.md#scheduling). A request for a model that is there goes to its
 * runner at once; the others wait in one line, and while its head waits for an eviction or a load, so do all behind it.
 */
export class RehearsedLoader {
  readonly #options: LoaderOptions
  readonly #runners = new Map<string, RehearsedRunner>()
  /** Memory of runners that ended and have not settled yet. */
  readonly #leaving = new Map<string, number>()
  readonly #pending: Wanted[] = []
  /** Taken from the line: waits for room, or for its model to be read. */
  #head: Wanted | null = null
  #isReading = false
  #cancelReading: () => void = () => {}
  /** Asked whenever a runner has settled. */
  readonly #clearings = new Set<() => void>()
  #loads = { all: 0, unordered: 0 }

  constructor(options: LoaderOptions) {
    this.#options = options
  }

  get loads(): { readonly all: number; readonly unordered: number } {
    return this.#loads
  }

  /** Models in memory, as `/api/ps` tells them: not while they load. */
  get resident(): string[] {
    return [...this.#runners.keys()]
  }

  admit(attempt: RehearsedAttempt, model: PlannedModel): void {
    const runner = this.#runners.get(model.name)
    if (runner) runner.use(attempt)
    else if (this.#pending.length >= pendingLimit) attempt.options.onBusy()
    else {
      this.#pending.push({ attempt, model })
      attempt.leave = () => this.#giveUp(attempt)
      this.#advance()
    }
  }

  /** Puts a model in memory that nobody waited for, and it stays. */
  preload(model: PlannedModel): void {
    const runner = this.#runner(model)
    runner.keepAlive = Number.POSITIVE_INFINITY
    this.#runners.set(model.name, runner)
  }

  /** Tells the victims to go, and calls back when they are gone. */
  clear(victims: readonly string[], done: () => void): void {
    const check = () => {
      if (victims.some((name) => this.#runners.has(name) || this.#leaving.has(name))) return
      this.#clearings.delete(check)
      done()
    }
    this.#clearings.add(check)
    for (const name of victims) this.#evict(this.#runners.get(name))
    check()
  }

  /** The machine is gone: returns everyone who was here. */
  abandon(): RehearsedAttempt[] {
    this.#cancelReading()
    const inLine = [...(this.#head ? [this.#head] : []), ...this.#pending].map(({ attempt }) => attempt)
    const onRunners = [...this.#runners.values()].flatMap((runner) => runner.abandon())
    this.#head = null
    this.#pending.length = 0
    this.#runners.clear()
    for (const check of this.#clearings) check()
    return [...inLine.filter(({ cancelled }) => !cancelled), ...onRunners]
  }

  #advance(): void {
    while (!this.#head) {
      const next = this.#pending.shift()
      if (!next) return
      if (next.attempt.cancelled) continue
      this.#head = next
      this.#place(next)
    }
  }

  /** Uses, loads, or makes room for what the head of the line asks for. */
  #place(head: Wanted): void {
    const runner = this.#runners.get(head.model.name)
    if (runner) {
      this.#head = null
      runner.use(head.attempt)
    } else if (this.#fits(head.model)) this.#read(head)
    else this.#evict(this.#victim())
  }

  #read({ attempt, model }: Wanted): void {
    const { timeline, node } = this.#options
    this.#isReading = true
    this.#loads.all++
    if (attempt.options.promptTokens > 0) this.#loads.unordered++
    this.#cancelReading = timeline.after(startTime + model.size / node.disk, () => {
      this.#isReading = false
      this.#head = null
      const runner = this.#runner(model)
      this.#runners.set(model.name, runner)
      runner.use(attempt)
      this.#advance()
    })
  }

  /** Whoever leaves while its model is read ends the reading: the next one starts from the beginning. */
  #giveUp(attempt: RehearsedAttempt): void {
    if (this.#head?.attempt !== attempt) return
    if (this.#isReading) this.#cancelReading()
    this.#isReading = false
    this.#head = null
    this.#advance()
  }

  #fits(model: PlannedModel): boolean {
    const { node } = this.#options
    if (this.#runners.size + this.#leaving.size >= node.maxLoaded) return false
    let used = 0
    for (const { memory } of this.#runners.values()) used += memory
    for (const memory of this.#leaving.values()) used += memory
    return used + footprint(model) <= node.memory
  }

  /** By the time they may stay, then by name; an idle one before a busy one. */
  #victim(): RehearsedRunner | undefined {
    const byTime = [...this.#runners.values()].sort(
      (a, b) => a.keepAlive - b.keepAlive || (a.model < b.model ? -1 : 1),
    )
    return byTime.find(({ isIdle }) => isIdle) ?? byTime[0]
  }

  /** It goes now, or as soon as it is idle: until then it still takes requests. */
  #evict(runner: RehearsedRunner | undefined): void {
    if (!runner) return
    runner.keepAlive = 0
    if (runner.isIdle) this.#unload(runner)
  }

  #unload(runner: RehearsedRunner): void {
    if (this.#runners.get(runner.model) !== runner) return
    runner.cancelExpiry()
    this.#runners.delete(runner.model)
    this.#leaving.set(runner.model, runner.memory)
    this.#options.timeline.after(settleTime, () => {
      this.#leaving.delete(runner.model)
      for (const check of this.#clearings) check()
      if (this.#head && !this.#isReading) this.#place(this.#head)
      this.#advance()
    })
  }

  #runner(model: PlannedModel): RehearsedRunner {
    const { timeline } = this.#options
    const onIdle = () => {
      if (runner.keepAlive === 0) this.#unload(runner)
      else runner.cancelExpiry = timeline.after(runner.keepAlive, () => this.#unload(runner))
    }
    const runner = new RehearsedRunner({ ...this.#options, model, onIdle }, keepAlive)
    return runner
  }
}
