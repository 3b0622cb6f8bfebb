import type { ModelRunner } from './model-runner.ts'

interface Placement {
  /** Loaded runners. */
  readonly loaded: number
  /** `OLLAMA_MAX_LOADED_MODELS`. */
  readonly mostLoaded: number
  /** Whether the model fits into the memory that is free. */
  readonly fits: boolean
}

/** Whether a model may be loaded beside the others. Ollama always loads the only model: what does not fit runs on the CPU. */
export function hasRoom({ loaded, mostLoaded, fits }: Placement): boolean {
  return loaded === 0 || (loaded < mostLoaded && fits)
}

/**
 * The runner that Ollama evicts: of the idle ones, the one with the shortest keep-alive, then the first by name; of the busy
 * ones when none is idle (docs/ollama.md#scheduling).
 */
export function chooseVictim<Runner extends ModelRunner>(runners: readonly Runner[]): Runner | null {
  const inOrder = runners.toSorted((a, b) => compare(a.keepAlive, b.keepAlive) || compare(a.name, b.name))
  return inOrder.find(({ idle }) => idle) ?? inOrder[0] ?? null
}

function compare<T extends string | number>(a: T, b: T): number {
  return a < b ? -1 : Number(a > b)
}
