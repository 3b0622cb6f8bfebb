import type { NodeView } from '../../fleet/node.ts'
import type { Api } from '../../fleet/request-spec.ts'

/** A change of what a node has in memory. */
export interface SwapOrder {
  readonly node: NodeView
  /** Canonical names of models to unload first; they run nothing. */
  readonly victims: readonly string[]
  readonly model: string
  readonly variant: string
  /** Of a request that waits for it: a model may only be for embeddings. */
  readonly api: Api
}

/** What came of it: seconds that the load took, or the victims that the node did not let go of. */
export type Swapped = { readonly loadS: number } | { readonly kept: readonly string[] }

/** A load that failed. `isBusy`: the node asked for a pause, as its availability tells, and nothing is wrong with the load. */
export abstract class LoadError extends Error {
  abstract readonly isBusy: boolean
}

/** The gateway owns the way to the nodes; this is how the scheduler has models loaded. */
export interface Loader {
  /**
   * Resolves when the model is in memory, or when nothing was loaded because victims stayed. The load outlives whoever
   * waits for it.
   *
   * @throws LoadError that tells those who wait for the load how it failed.
   */
  swap(order: SwapOrder): Promise<Swapped>

  /** Has a node unload models that run nothing. */
  unload(node: NodeView, models: readonly string[]): Promise<void>
}
