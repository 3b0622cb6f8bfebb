import type { ModelDefinition } from '../disk/models.ts'
import { invariant } from '../refusal.ts'
import type { Fingerprint } from './options.ts'
import type { RunnerShape } from './runner.ts'

export interface SimulatedGpu {
  readonly id: string
  readonly totalMiB: number
  /** A discrete card gives its memory back some time after a runner has gone. */
  readonly discrete: boolean
}

/** Another model may fill this share of what is free; more evicts something first (docs/ollama.md#scheduling). */
const usableShare = 0.8
const discreteRecoverMs = 800

/** The VRAM of one node: what a model needs, whether it fits, and who holds how much. */
export class GpuMemory {
  readonly #totalMiB: number
  /** Milliseconds between the end of a runner and the return of its VRAM. */
  readonly recoverMs: number
  #usedMiB = 0

  /** @param heldMiB what processes hold that the node knows nothing of. */
  constructor(gpus: readonly SimulatedGpu[], heldMiB: number) {
    this.#usedMiB = heldMiB
    this.#totalMiB = gpus.reduce((sum, gpu) => sum + gpu.totalMiB, 0)
    this.recoverMs = gpus.some((gpu) => gpu.discrete) ? discreteRecoverMs : 0
  }

  /** Tokens of context a request comes to: by VRAM when it does not say, never more than the model was trained for. */
  contextOf(model: ModelDefinition, { numCtx }: Fingerprint): number {
    return Math.min(numCtx ?? defaultContext(this.#totalMiB), model.trainCtx)
  }

  /** The shape of a load: as much of it in VRAM as is free. */
  shapeOf(model: ModelDefinition, fingerprint: Fingerprint, numParallel: number): RunnerShape {
    const ctx = this.contextOf(model, fingerprint)
    const isSerial = model.seqParallel1 || !model.capabilities.includes('completion')
    const parallel = isSerial ? 1 : numParallel
    const sizeMiB = model.sizeMiB + (model.kvMiBPer1kCtx * ctx * parallel) / 1000
    return { model, fingerprint, ctx, parallel, sizeMiB, vramMiB: Math.min(sizeMiB, this.#freeMiB) }
  }

  /** Whether a model of this shape may join the loaded ones. A CPU node never says no. */
  fits({ sizeMiB, ctx }: RunnerShape): boolean {
    return this.#totalMiB === 0 || sizeMiB + surchargeMiB(ctx) <= usableShare * this.#freeMiB
  }

  reserve(shape: RunnerShape): RunnerShape {
    this.#usedMiB += shape.vramMiB
    invariant(this.#usedMiB <= this.#totalMiB + 1e-6, 'more VRAM in use than there is')
    return shape
  }

  release(vramMiB: number): void {
    this.#usedMiB = Math.max(0, this.#usedMiB - vramMiB)
  }

  /** MiB that are not free. */
  get usedMiB(): number {
    return this.#usedMiB
  }

  get #freeMiB(): number {
    return this.#totalMiB - this.#usedMiB
  }
}

/** Ollama's tiers by total VRAM, so one model has different contexts on different nodes (docs/ollama.md#scheduling). */
function defaultContext(totalMiB: number): number {
  if (totalMiB >= 47 * 1024) return 262_144
  return totalMiB >= 23 * 1024 ? 32_768 : 4096
}

function surchargeMiB(ctx: number): number {
  if (ctx <= 4096) return 0
  return ctx <= 32_768 ? 768 : 2048
}
