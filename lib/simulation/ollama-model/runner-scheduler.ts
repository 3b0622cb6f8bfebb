import { invariant } from './invariant.ts'
import type { ModelClock, ModelRunner } from './model-runner.ts'
import { chooseVictim, hasRoom } from './placement.ts'

/** A request for a runner. */
export interface RunnerRequest {
  /** Key of the runner that it wants. */
  readonly key: string
  /** Null: as long as the runner stays now. */
  readonly keepAlive: number | null
  /** Its client has left. */
  readonly left: boolean
}

/** What happened, in the order of the model's time. */
export type RunnerEvent<Request, Runner> =
  | { readonly type: 'queued'; readonly request: Request; readonly pending: number }
  /** Its key is the request's when the request needs the same model with other options. */
  | { readonly type: 'evicting'; readonly request: Request; readonly victim: Runner }
  | { readonly type: 'loading' | 'loaded' | 'load-wasted'; readonly request: Request }
  /** The memory of a runner is free again. */
  | { readonly type: 'unloaded'; readonly runner: Runner }

/** What a simulation adds to the model: sizes, durations, and what becomes of a request that has a runner. */
export interface RunnerHost<Request, Runner> {
  /** Whether the loaded runner serves the request without a reload. */
  serves(runner: Runner, request: Request): boolean
  /** Whether the request's model may join the loaded ones. */
  fits(request: Request, freeMemory: number): boolean
  /** Memory that its load takes. */
  memoryFor(request: Request, freeMemory: number): number
  loadTime(request: Request): number
  /** Makes the runner at the end of its load. */
  start(request: Request, memory: number, onExpired: () => void): Runner
  /** The request holds its runner until it calls `runner.leave()`. */
  onReady(request: Request, runner: Runner): void
  onEvent(event: RunnerEvent<Request, Runner>): void
}

export interface RunnerSchedulerOptions {
  readonly clock: ModelClock
  readonly memory: number
  /** Memory that processes hold which this Ollama does not know of. */
  readonly heldMemory: number
  readonly mostLoaded: number
  /** `OLLAMA_MAX_QUEUE`. */
  readonly mostPending: number
  /** Time between the end of a runner and the return of its memory. */
  readonly recoveryTime: number
  /**
   * Whether a runner counts as loaded until its memory is back. Ollama forgets it at once, and may then load the only model
   * partly into host memory; a simulation without such loads has to wait for the memory.
   */
  readonly countsUnloading: boolean
}

/**
 * Which models are loaded (docs/ollama.md#scheduling). A request for a loaded runner passes at once. Every other waits in one
 * FIFO that has one dispatcher, and the dispatcher blocks while it evicts and loads: pending -> (evicting)* -> loading ->
 * ready -> unloading -> gone. When its client leaves, a request keeps its place in the FIFO until it is popped.
 */
export class RunnerScheduler<Request extends RunnerRequest, Runner extends ModelRunner> {
  readonly #options: RunnerSchedulerOptions
  readonly #host: RunnerHost<Request, Runner>
  readonly #loaded = new Map<string, Runner>()
  /** Ended runners whose memory is not back yet. */
  readonly #unloading = new Set<Runner>()
  readonly #pending: Request[] = []
  /** Popped from the FIFO: it waits for an unload or for its load. */
  #head: Request | null = null
  #load: { readonly memory: number; readonly cancel: () => void } | null = null

  constructor(options: RunnerSchedulerOptions, host: RunnerHost<Request, Runner>) {
    this.#options = options
    this.#host = host
  }

  /** The loaded runners, in the order of their loads; a model that still loads is not among them. */
  get runners(): readonly Runner[] {
    return [...this.#loaded.values()]
  }

  /** Memory of runners, of a load in progress, and of unknown processes. */
  get usedMemory(): number {
    let used = this.#options.heldMemory + (this.#load?.memory ?? 0)
    for (const { memory } of this.#loaded.values()) used += memory
    for (const { memory } of this.#unloading) used += memory
    return used
  }

  /** Requests that wait for an unload, for a load or in the FIFO, and that still have their client. */
  get waiting(): readonly Request[] {
    return [...(this.#head ? [this.#head] : []), ...this.#pending].filter(({ left }) => !left)
  }

  /** Whether a runner of this key is loaded, or its memory is not back yet. */
  holds(key: string): boolean {
    return this.#loaded.has(key) || [...this.#unloading].some((runner) => runner.key === key)
  }

  /** Gives the request its runner if that is loaded. */
  serveLoaded(request: Request): boolean {
    const runner = this.#servingRunner(request)
    if (!runner) return false
    this.#serve(runner, request)
    return true
  }

  /** Queues a request for a model that is not loaded; returns false when the FIFO is full. */
  enqueue(request: Request): boolean {
    if (this.#pending.length >= this.#options.mostPending) return false
    this.#pending.push(request)
    this.#host.onEvent({ type: 'queued', request, pending: this.#pending.length })
    if (!this.#head) this.#advance()
    return true
  }

  /**
   * The client of a request has left. A load for it is lost, and the next request begins its own. While it waits for an
   * eviction, the dispatcher stays blocked until some runner is gone, as Ollama's does.
   */
  giveUp(request: Request): void {
    if (this.#head !== request || !this.#load) return
    this.#wasteLoad(request)
    this.#head = null
    this.#advance()
  }

  /** Puts a model into memory, as if it had been loaded before the simulation began; it need not fit. */
  preload(request: Request): void {
    const runner = this.#start(request, this.#host.memoryFor(request, this.#freeMemory))
    runner.enter(request.keepAlive)
    runner.leave()
  }

  /** Unloads a model as soon as it is idle. */
  unload(key: string): void {
    this.#loaded.get(key)?.evict()
  }

  /** Every runner's process dies, and its memory is free at once. */
  crash(): void {
    const crashed = this.runners
    this.#loaded.clear()
    for (const runner of crashed) runner.crash()
    for (const runner of crashed) this.#host.onEvent({ type: 'unloaded', runner })
    if (crashed.length > 0) this.#retryHead()
  }

  /** Forgets every runner and every waiting request. Safe to call twice. */
  stop(): void {
    for (const runner of this.#loaded.values()) runner.stop()
    this.#loaded.clear()
    this.#pending.length = 0
    if (this.#head && this.#load) this.#wasteLoad(this.#head)
    this.#head = null
  }

  #servingRunner(request: Request): Runner | null {
    const runner = this.#loaded.get(request.key)
    return runner && this.#host.serves(runner, request) ? runner : null
  }

  #serve(runner: Runner, request: Request): void {
    runner.enter(request.keepAlive)
    this.#host.onReady(request, runner)
  }

  /** Serves the FIFO until its head has to wait. */
  #advance(): void {
    for (;;) {
      this.#head ??= this.#pending.shift() ?? null
      const head = this.#head
      if (!head || (!head.left && !this.#place(head))) return
      this.#head = null
    }
  }

  /** Serves the head of the FIFO, or begins what it has to wait for and returns false. */
  #place(head: Request): boolean {
    if (this.serveLoaded(head)) return true
    const outdated = this.#loaded.get(head.key)
    if (!outdated && this.#hasRoom(head)) this.#beginLoad(head)
    else this.#evict(outdated ?? chooseVictim(this.runners), head)
    return false
  }

  #hasRoom(request: Request): boolean {
    const { countsUnloading, mostLoaded } = this.#options
    const loaded = this.#loaded.size + (countsUnloading ? this.#unloading.size : 0)
    return hasRoom({ loaded, mostLoaded, fits: this.#host.fits(request, this.#freeMemory) })
  }

  /** The head is placed again when some runner is gone: never, when requests keep bringing the victim back (#17408). */
  #evict(victim: Runner | null, request: Request): void {
    if (!victim) return
    this.#host.onEvent({ type: 'evicting', request, victim })
    victim.evict()
  }

  #beginLoad(request: Request): void {
    invariant(!this.#load, 'two loads at a time')
    const memory = this.#memoryFor(request)
    const cancel = this.#options.clock.after(this.#host.loadTime(request), () => {
      this.#load = null
      const runner = this.#start(request, memory)
      this.#host.onEvent({ type: 'loaded', request })
      this.#serve(runner, request)
      this.#head = null
      this.#advance()
    })
    this.#load = { memory, cancel }
    this.#host.onEvent({ type: 'loading', request })
  }

  #wasteLoad(request: Request): void {
    this.#load?.cancel()
    this.#load = null
    this.#host.onEvent({ type: 'load-wasted', request })
  }

  #start(request: Request, memory: number): Runner {
    const runner = this.#host.start(request, memory, () => this.#expire(runner))
    this.#loaded.set(request.key, runner)
    return runner
  }

  /** Takes a runner out of service. Its memory returns after the recovery time. */
  #expire(runner: Runner): void {
    invariant(runner.idle, 'a busy runner was unloaded')
    runner.stop()
    if (this.#loaded.get(runner.key) !== runner) return
    this.#loaded.delete(runner.key)
    this.#unloading.add(runner)
    this.#options.clock.after(this.#options.recoveryTime, () => {
      this.#unloading.delete(runner)
      this.#host.onEvent({ type: 'unloaded', runner })
      this.#retryHead()
    })
  }

  #retryHead(): void {
    if (!this.#load) this.#advance()
  }

  #memoryFor(request: Request): number {
    const memory = this.#host.memoryFor(request, this.#freeMemory)
    invariant(memory <= this.#freeMemory + 1e-6, 'more memory in use than there is')
    return memory
  }

  get #freeMemory(): number {
    return this.#options.memory - this.usedMemory
  }
}
