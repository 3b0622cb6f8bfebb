import type { Clock } from '../../../shared/clock.ts'
import type { ModelDefinition } from '../disk/models.ts'
import type { Ledger } from '../ledger.ts'
import { busyText, invariant, Refusal } from '../refusal.ts'
import { GpuMemory, type SimulatedGpu } from './gpu-memory.ts'
import { type Fingerprint, needsReload } from './options.ts'
import { SimulatedRunner } from './runner.ts'
import { once } from './slots.ts'

export interface RunnerSchedulerOptions {
  readonly clock: Clock
  readonly ledger: Ledger
  /** None: a CPU node. */
  readonly gpus: readonly SimulatedGpu[]
  readonly numParallel: number
  /** 0: three for each GPU, three on a CPU node. */
  readonly maxLoadedModels: number
  readonly maxQueue: number
  readonly keepAliveMs: number
  /** VRAM of runners that a node before it left behind. */
  readonly heldMiB: number
}

/** What a request asks the scheduler for. */
export interface RunnerAsk {
  readonly model: ModelDefinition
  readonly fingerprint: Fingerprint
  /** Null: what the runner has. */
  readonly keepAliveMs: number | null
  readonly signal: AbortSignal
  /** The request's number in the ledger. */
  readonly request: number
  /** The fault `busy`: only a ready runner is granted. */
  readonly refuseQueue: boolean
}

/** A runner that stays loaded until this is disposed of. */
export interface SlotGrant extends Disposable {
  readonly runner: SimulatedRunner
}

interface Waiter {
  readonly ask: RunnerAsk
  readonly resolve: (grant: SlotGrant) => void
}

/** A second load of a model reads the page cache, not the disk. */
const warmFactor = 0.35

/**
 * Which models are loaded (docs/ollama.md#scheduling). A request for a ready runner passes at once. Any other waits in one FIFO of
 * `maxQueue` places, emptied by one dispatcher that blocks while it evicts and loads: pending -> (evicting)* -> loading ->
 * ready -> unloading -> gone. Who left keeps the place in the FIFO until it is popped.
 */
export class RunnerScheduler {
  readonly #options: RunnerSchedulerOptions
  readonly #memory: GpuMemory
  readonly #pending: Waiter[] = []
  readonly #loaded = new Map<string, SimulatedRunner>()
  readonly #warm = new Set<string>()
  #dispatching = false
  #loading = false
  #stopped = false
  #unloaded = Promise.withResolvers<void>()

  constructor(options: RunnerSchedulerOptions) {
    this.#options = options
    this.#memory = new GpuMemory(options.gpus, options.heldMiB)
  }

  /** VRAM of its runners, of a load under way, and of those that were left behind. */
  get usedMiB(): number {
    return this.#memory.usedMiB
  }

  /** The loaded runners; one that still loads is not among them. */
  get runners(): readonly SimulatedRunner[] {
    return [...this.#loaded.values()]
  }

  /**
   * Resolves to the runner of `ask`, loaded if need be.
   * @throws Refusal 503 when the FIFO is full; the signal's reason when the client leaves.
   */
  async acquire(ask: RunnerAsk): Promise<SlotGrant> {
    ask.signal.throwIfAborted()
    const resident = this.#fitting(ask)
    if (resident) return this.#use(resident, ask)
    const { ledger, maxQueue } = this.#options
    if (ask.refuseQueue || this.#pending.length >= maxQueue) {
      ledger.record({ type: 'reject-503', request: ask.request, model: ask.model.name })
      throw new Refusal(503, busyText)
    }
    return this.#enqueue(ask)
  }

  /** Unloads `model` once it is idle. */
  unload(model: ModelDefinition): void {
    this.#loaded.get(model.digest)?.evict()
  }

  /** Every runner's process dies; its VRAM is free at once. */
  crash(): void {
    for (const runner of this.runners) {
      runner.crash()
      this.#loaded.delete(runner.shape.model.digest)
      this.#free(runner)
    }
  }

  /** Forgets every runner and waiter; their requests end by their own signals. Safe to call twice. */
  stop(): void {
    this.#stopped = true
    for (const runner of this.runners) runner.stop()
    this.#loaded.clear()
    this.#pending.length = 0
  }

  #enqueue(ask: RunnerAsk): Promise<SlotGrant> {
    return new Promise((resolve, reject) => {
      ask.signal.addEventListener('abort', () => reject(ask.signal.reason), { once: true })
      this.#pending.push({ ask, resolve })
      this.#options.ledger.queued(ask.request, ask.model.name, this.#pending.length)
      void this.#dispatch()
    })
  }

  async #dispatch(): Promise<void> {
    if (this.#dispatching) return
    this.#dispatching = true
    for (let waiter = this.#pending.shift(); waiter; waiter = this.#pending.shift()) await this.#place(waiter)
    this.#dispatching = false
  }

  /** Serves the head of the FIFO; nothing else is dispatched meanwhile. */
  async #place({ ask, resolve }: Waiter): Promise<void> {
    while (!ask.signal.aborted && !this.#stopped) {
      const resident = this.#fitting(ask)
      if (resident) return resolve(this.#use(resident, ask))
      const victim = this.#victimOf(ask)
      if (!victim) {
        const runner = await this.#load(ask)
        return runner ? resolve(this.#use(runner, ask)) : undefined
      }
      await this.#evict(victim, ask)
    }
  }

  #fitting(ask: RunnerAsk): SimulatedRunner | null {
    const resident = this.#loaded.get(ask.model.digest)
    if (!resident) return null
    const { fingerprint, ctx } = resident.shape
    const wantCtx = this.#memory.contextOf(ask.model, ask.fingerprint)
    return needsReload(fingerprint, ctx, ask.fingerprint, wantCtx) ? null : resident
  }

  /** Who has to go before `ask` can be loaded, or null when there is room. */
  #victimOf(ask: RunnerAsk): SimulatedRunner | null {
    const outdated = this.#loaded.get(ask.model.digest)
    if (outdated) return outdated
    const most = this.#options.maxLoadedModels || 3 * Math.max(this.#options.gpus.length, 1)
    const isRoom = this.#loaded.size < most && this.#memory.fits(this.#shapeOf(ask))
    if (this.#loaded.size === 0 || isRoom) return null
    const byKeepAlive = this.runners.toSorted(
      (a, b) => compare(a.keepAliveMs, b.keepAliveMs) || compare(a.shape.model.name, b.shape.model.name),
    )
    return byKeepAlive.find((runner) => runner.idle) ?? byKeepAlive[0] ?? null
  }

  /** Marks the victim and waits until some runner is gone: for ever, when requests keep bringing it back (#17408). */
  async #evict(victim: SimulatedRunner, ask: RunnerAsk): Promise<void> {
    const { ledger } = this.#options
    const model = victim.shape.model.name
    ledger.record({
      type: victim.shape.model.digest === ask.model.digest ? 'reload' : 'evict',
      request: ask.request,
      model,
    })
    const gone = this.#unloaded.promise
    victim.evict()
    await gone
  }

  /** Takes a runner out of service; its VRAM returns only after the driver has given it back. */
  #expire(runner: SimulatedRunner): void {
    const { clock } = this.#options
    invariant(runner.idle, 'a busy runner was unloaded')
    runner.stop()
    if (this.#loaded.get(runner.shape.model.digest) !== runner) return
    this.#loaded.delete(runner.shape.model.digest)
    clock.after(this.#memory.recoverMs, () => this.#free(runner))
  }

  #free({ shape }: SimulatedRunner): void {
    this.#memory.release(shape.vramMiB)
    this.#options.ledger.record({ type: 'unload', model: shape.model.name })
    this.#unloaded.resolve()
    this.#unloaded = Promise.withResolvers()
  }

  /** Resolves to null when the client left: what was loaded so far is lost, and the next waiter starts from zero. */
  async #load(ask: RunnerAsk): Promise<SimulatedRunner | null> {
    const { clock, ledger, keepAliveMs } = this.#options
    const { model, signal, request } = ask
    invariant(!this.#loading, 'two loads at a time')
    this.#loading = true
    const shape = this.#memory.reserve(this.#shapeOf(ask))
    ledger.record({ type: 'load-start', request, model: model.name })
    try {
      await clock.sleep(this.#loadMs(model), signal)
    } catch {
      // The signal is the only reason to fail, and whoever waits for the grant hears of it as well.
      this.#memory.release(shape.vramMiB)
      ledger.record({ type: 'load-wasted', request, model: model.name })
      return null
    } finally {
      this.#loading = false
    }
    const runner = new SimulatedRunner(shape, keepAliveMs, clock, (expired) => this.#expire(expired))
    this.#loaded.set(model.digest, runner)
    this.#warm.add(model.digest)
    ledger.record({ type: 'load-end', request, model: model.name })
    return runner
  }

  #loadMs(model: ModelDefinition): number {
    const cold = model.loadMs ?? (model.sizeMiB / model.loadMiBps) * 1000
    return this.#warm.has(model.digest) ? cold * warmFactor : cold
  }

  #use(runner: SimulatedRunner, ask: RunnerAsk): SlotGrant {
    runner.enter(ask.keepAliveMs)
    return { runner, [Symbol.dispose]: once(() => this.#stopped || runner.leave()) }
  }

  #shapeOf({ model, fingerprint }: RunnerAsk) {
    return this.#memory.shapeOf(model, fingerprint, this.#options.numParallel)
  }
}

function compare<T extends string | number>(a: T, b: T): number {
  return a < b ? -1 : Number(a > b)
}
