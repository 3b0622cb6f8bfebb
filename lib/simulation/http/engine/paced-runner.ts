import { ModelRunner, type ModelRunnerOptions } from '../../ollama-model/model-runner.ts'
import { RunnerSlots } from '../../ollama-model/runner-slots.ts'
import type { ModelDefinition } from '../disk/model-definition.ts'
import type { Fingerprint } from './fingerprint.ts'
import { PromptBatches } from './prompt-batches.ts'
import { hostMemoryOf, textPrompts } from './text-prompts.ts'

/** How a model is loaded: decided once per load. */
export interface RunnerShape {
  readonly model: ModelDefinition
  readonly fingerprint: Fingerprint
  /** Tokens of context per slot. */
  readonly ctx: number
  readonly parallel: number
  readonly sizeMiB: number
  readonly vramMiB: number
}

/** A loaded model of a node with sockets. Its times are clock milliseconds, its memory is MiB of VRAM. */
export class PacedRunner extends ModelRunner {
  readonly shape: RunnerShape
  readonly slots: RunnerSlots<string>
  readonly batches = new PromptBatches()

  constructor(
    shape: RunnerShape,
    options: Pick<ModelRunnerOptions, 'clock' | 'onExpired'> & { readonly keepAliveMs: number },
  ) {
    const { model, vramMiB, parallel } = shape
    super({
      ...options,
      key: model.digest,
      name: model.name,
      memory: vramMiB,
      keepAlive: options.keepAliveMs,
    })
    this.shape = shape
    this.slots = new RunnerSlots(parallel, textPrompts, hostMemoryOf(model.kvMiBPer1kCtx))
  }

  /** How many times slower than with every layer in VRAM. */
  get slowdown(): number {
    const { model, sizeMiB, vramMiB } = this.shape
    return 1 + (model.cpuFactor - 1) * (1 - vramMiB / Math.max(sizeMiB, 1))
  }
}
