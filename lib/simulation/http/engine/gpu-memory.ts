import { ollamaDefaults } from '../../ollama-model/defaults.ts'
import type { ModelDefinition } from '../disk/model-definition.ts'
import type { Fingerprint } from './fingerprint.ts'
import type { RunnerShape } from './paced-runner.ts'

export interface Gpu {
  readonly id: string
  readonly totalMiB: number
  /** A discrete card gives memory back some time after the end of a runner. */
  readonly discrete: boolean
}

/** Another model may fill this share of the free VRAM; a larger one evicts a runner first (docs/ollama.md#scheduling). */
const usableShare = 0.8

/** The GPUs of one node: what a model needs of their VRAM, and whether it fits into what is free. */
export class GpuMemory {
  readonly totalMiB: number
  /** Milliseconds between the end of a runner and the return of its VRAM. */
  readonly recoverMs: number

  constructor(gpus: readonly Gpu[]) {
    this.totalMiB = gpus.reduce((sum, gpu) => sum + gpu.totalMiB, 0)
    this.recoverMs = gpus.some((gpu) => gpu.discrete) ? ollamaDefaults.recoveryS * 1000 : 0
  }

  /** Tokens of context of a request: by VRAM when the request does not say, at most what the model was trained for. */
  contextOf(model: ModelDefinition, { numCtx }: Fingerprint): number {
    return Math.min(numCtx ?? defaultContext(this.totalMiB), model.trainCtx)
  }

  /** The shape of a load: as much of it in VRAM as is free. */
  shapeOf(
    model: ModelDefinition,
    fingerprint: Fingerprint,
    { numParallel, freeMiB }: { readonly numParallel: number; readonly freeMiB: number },
  ): RunnerShape {
    const ctx = this.contextOf(model, fingerprint)
    const isSerial = model.seqParallel1 || !model.capabilities.includes('completion')
    const parallel = isSerial ? 1 : numParallel
    const sizeMiB = model.sizeMiB + (model.kvMiBPer1kCtx * ctx * parallel) / 1000
    return { model, fingerprint, ctx, parallel, sizeMiB, vramMiB: Math.min(sizeMiB, freeMiB) }
  }

  /** Whether a model of this shape may join the loaded ones. A CPU node never says no. */
  fits({ sizeMiB, ctx }: RunnerShape, freeMiB: number): boolean {
    return this.totalMiB === 0 || sizeMiB + surchargeMiB(ctx) <= usableShare * freeMiB
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
