import type { Clock } from '../../../shared/clock.ts'
import { ollamaDefaults } from '../../ollama-model/defaults.ts'
import {
  type RunnerEvent,
  type RunnerHost,
  type RunnerRequest,
  RunnerScheduler,
} from '../../ollama-model/runner-scheduler.ts'
import type { ModelDefinition } from '../disk/model-definition.ts'
import type { Ledger } from '../ledger.ts'
import { busyText, Refusal } from '../refusal.ts'
import { type Fingerprint, needsReload } from './fingerprint.ts'
import { type Gpu, GpuMemory } from './gpu-memory.ts'
import { PacedRunner, type RunnerShape } from './paced-runner.ts'
import { once } from './slots.ts'

export interface NodeRunnersOptions {
  readonly clock: Clock
  readonly ledger: Ledger
  /** None: a CPU node. */
  readonly gpus: readonly Gpu[]
  readonly numParallel: number
  /** 0: three for each GPU, three on a CPU node. */
  readonly maxLoadedModels: number
  readonly maxQueue: number
  readonly keepAliveMs: number
  /** VRAM of runners that a killed node left behind. */
  readonly heldMiB: number
}

/** What a request needs of its runner. */
export interface RunnerSpec {
  readonly model: ModelDefinition
  readonly fingerprint: Fingerprint
  /** Null: what the runner has. */
  readonly keepAliveMs: number | null
  readonly signal: AbortSignal
  /** The request's number in the ledger. */
  readonly request: number
  /** The fault `busy`: only a loaded runner is leased. */
  readonly refuseQueue: boolean
}

/** A runner that stays loaded until the lease is disposed of. */
export interface RunnerLease extends Disposable {
  readonly runner: PacedRunner
}

/** The second load of a model reads the page cache, not the disk. */
const warmFactor = 0.35

/** The runners of one node with sockets: the model of Ollama on the node's clock, with promises, refusals and a ledger. */
export class NodeRunners {
  readonly #options: NodeRunnersOptions
  readonly #memory: GpuMemory
  readonly #scheduler: RunnerScheduler<PendingLease, PacedRunner>
  readonly #warm = new Set<string>()
  #stopped = false

  constructor(options: NodeRunnersOptions) {
    const { clock, gpus, heldMiB, maxLoadedModels, maxQueue } = options
    this.#options = options
    this.#memory = new GpuMemory(gpus)
    this.#scheduler = new RunnerScheduler(
      {
        clock,
        memory: this.#memory.totalMiB,
        heldMemory: heldMiB,
        mostLoaded: maxLoadedModels || ollamaDefaults.modelsPerGpu * Math.max(gpus.length, 1),
        mostPending: maxQueue,
        recoveryTime: this.#memory.recoverMs,
        countsUnloading: false,
      },
      this.#host(),
    )
  }

  /** VRAM of its runners, of a load in progress, and of those that were left behind. */
  get usedMiB(): number {
    return this.#scheduler.usedMemory
  }

  /** The loaded runners; one that still loads is not among them. */
  get loaded(): readonly PacedRunner[] {
    return this.#scheduler.runners
  }

  /**
   * Resolves to the runner of `spec`, which is loaded first if necessary.
   * @throws Refusal 503 when the FIFO is full; the signal's reason when the client leaves.
   */
  async acquire(spec: RunnerSpec): Promise<RunnerLease> {
    spec.signal.throwIfAborted()
    const lease = new PendingLease(spec)
    if (this.#scheduler.serveLoaded(lease)) return lease.granted
    if (spec.refuseQueue || !this.#scheduler.enqueue(lease)) {
      this.#options.ledger.record({ type: 'reject-503', request: spec.request, model: spec.model.name })
      throw new Refusal(503, busyText)
    }
    const leave = () => {
      this.#scheduler.giveUp(lease)
      lease.reject(spec.signal.reason)
    }
    spec.signal.addEventListener('abort', leave, { once: true })
    return lease.granted
  }

  /** Unloads `model` once it is idle. */
  unload(model: ModelDefinition): void {
    this.#scheduler.unload(model.digest)
  }

  /** Every runner's process dies; its VRAM is free at once. */
  crash(): void {
    this.#scheduler.crash()
  }

  /** Forgets every runner and every pending request; the requests end by their own signals. Safe to call twice. */
  stop(): void {
    this.#stopped = true
    this.#scheduler.stop()
  }

  #host(): RunnerHost<PendingLease, PacedRunner> {
    const { clock, keepAliveMs } = this.#options
    return {
      serves: ({ shape }, { spec }) => {
        const wantCtx = this.#memory.contextOf(spec.model, spec.fingerprint)
        return !needsReload(shape.fingerprint, shape.ctx, spec.fingerprint, wantCtx)
      },
      fits: (lease, freeMiB) => this.#memory.fits(this.#shapeOf(lease, freeMiB), freeMiB),
      memoryFor: (lease, freeMiB) => this.#shapeOf(lease, freeMiB).vramMiB,
      loadTime: ({ spec }) => this.#loadMs(spec.model),
      start: (lease, memory, onExpired) =>
        new PacedRunner(this.#shapeOf(lease, memory), { clock, keepAliveMs, onExpired }),
      onReady: (lease, runner) => {
        lease.grant({ runner, [Symbol.dispose]: once(() => this.#stopped || runner.leave()) })
      },
      onEvent: (event) => this.#record(event),
    }
  }

  #record(event: RunnerEvent<PendingLease, PacedRunner>): void {
    const { ledger } = this.#options
    if (event.type === 'unloaded') {
      ledger.record({ type: 'unload', model: event.runner.name })
      return
    }
    const { request, model } = event.request.spec
    if (event.type === 'queued') ledger.queued(request, model.name, event.pending)
    else if (event.type === 'evicting') {
      const type = event.victim.key === model.digest ? 'reload' : 'evict'
      ledger.record({ type, request, model: event.victim.name })
    } else ledger.record({ type: loadEvents[event.type], request, model: model.name })
    if (event.type === 'loaded') this.#warm.add(model.digest)
  }

  #loadMs(model: ModelDefinition): number {
    const cold = model.loadMs ?? (model.sizeMiB / model.loadMiBps) * 1000
    return this.#warm.has(model.digest) ? cold * warmFactor : cold
  }

  #shapeOf({ spec }: PendingLease, freeMiB: number): RunnerShape {
    const { numParallel } = this.#options
    return this.#memory.shapeOf(spec.model, spec.fingerprint, { numParallel, freeMiB })
  }
}

const loadEvents = { loading: 'load-start', loaded: 'load-end', 'load-wasted': 'load-wasted' } as const

/** A request for a runner, and the promise that its caller waits for. */
class PendingLease implements RunnerRequest {
  readonly spec: RunnerSpec
  readonly granted: Promise<RunnerLease>
  readonly grant: (lease: RunnerLease) => void
  readonly reject: (reason: unknown) => void

  constructor(spec: RunnerSpec) {
    const { promise, resolve, reject } = Promise.withResolvers<RunnerLease>()
    this.spec = spec
    this.granted = promise
    this.grant = resolve
    this.reject = reject
  }

  get key(): string {
    return this.spec.model.digest
  }

  get keepAlive(): number | null {
    return this.spec.keepAliveMs
  }

  get left(): boolean {
    return this.spec.signal.aborted
  }
}
