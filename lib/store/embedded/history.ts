import type { Log } from '../../shared/log.ts'
import type { Change, Watch, WatchHandler } from '../store.ts'
import type { StoreStep } from './step-draft.ts'

/** Steps kept for watches that start in the past: a client lists, then watches from the next revision. */
const maxSteps = 1000

interface Standing {
  readonly prefix: string
  readonly from: bigint
  readonly handler: WatchHandler
}

/** The last steps of the embedded store and the watches that are told about each new one. */
export class History {
  readonly #log: Log
  readonly #watches = new Set<Standing>()
  #steps: StoreStep[] = []
  /** The newest revision that is not kept any more. */
  #forgotten: bigint

  /** @param revision where the history begins: earlier steps were never in memory. */
  constructor(revision: bigint, log: Log) {
    this.#forgotten = revision
    this.#log = log
  }

  add(step: StoreStep): void {
    this.#steps.push(step)
    if (this.#steps.length > maxSteps) this.#forgotten = this.#steps.shift()?.revision ?? this.#forgotten
    for (const watch of [...this.#watches]) if (this.#watches.has(watch)) this.#tell(watch, step)
  }

  watch(prefix: string, from: bigint, handler: WatchHandler): Watch {
    const watch = { prefix, from, handler }
    if (from <= this.#forgotten) {
      this.#guarded(() => handler.broken('compacted'))
      return { close() {} }
    }
    for (const step of this.#steps) this.#tell(watch, step)
    this.#watches.add(watch)
    return { close: () => void this.#watches.delete(watch) }
  }

  /** Ends every watch. */
  close(): void {
    this.#watches.clear()
    this.#steps = []
  }

  #tell({ prefix, from, handler }: Standing, { revision, changes }: StoreStep): void {
    if (revision < from) return
    const seen = changes.filter((change) => keyOf(change).startsWith(prefix))
    if (seen.length > 0) this.#guarded(() => handler.changed(seen, revision))
  }

  /** A failing watcher must not fail the commit. */
  #guarded(task: () => void): void {
    try {
      task()
    } catch (error) {
      this.#log.error('a watch handler failed', { error })
    }
  }
}

function keyOf(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key
}
