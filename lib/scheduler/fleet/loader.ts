import type { NodeView } from '../../fleet/node.ts'
import type { Api } from '../../fleet/request-spec.ts'

/** A change of what a node has in memory. */
export interface SwapOrder {
  readonly node: NodeView
  /** Canonical names of the models to unload first; they run no requests. */
  readonly victims: readonly string[]
  readonly model: string
  readonly variant: string
  /** The API of a request that waits for the load: a model may only serve embeddings. */
  readonly api: Api
}

/** The result of a swap: the duration of the load in seconds, or the victims that the node did not unload. */
export type Swapped = { readonly loadS: number } | { readonly kept: readonly string[] }

/** A failed load. `isBusy`: the node only asked for a pause, which its availability shows; the load is not to blame. */
export abstract class LoadError extends Error {
  abstract readonly isBusy: boolean
}

/** How the scheduler loads models. The gateway implements it, since it owns the connections to the nodes. */
export interface Loader {
  /**
   * Resolves when the model is in memory, or when nothing was loaded because victims stayed. The load goes on when the
   * requests that wait for it leave.
   *
   * @throws LoadError the reason, for the requests that wait for the load.
   */
  swap(order: SwapOrder): Promise<Swapped>

  /** Unloads models that run no requests from a node. */
  unload(node: NodeView, models: readonly string[]): Promise<void>
}
