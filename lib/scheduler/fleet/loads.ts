import type { Clock } from '../../shared/clock.ts'
import { messageOf, ProxyError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { SchedulerEvent } from '../events.ts'
import { LoadError, type Loader, type SwapOrder, type Swapped } from './loader.ts'

/** A load counts as hung after so many milliseconds, and after so many times its expected duration (docs/routing.md#loads). */
const hungMs = 60_000
const hungTimes = 3

interface LoadsOptions {
  readonly loader: Pick<Loader, 'swap'>
  readonly clock: Clock
  readonly log: Pick<Log, 'warn'>
  /** Reports the end of a load to the core. */
  readonly tell: (event: Extract<SchedulerEvent, { type: 'swapped' }>) => void
  /** A load failed; called before `tell`. @param error what the loader threw. */
  readonly failed: (order: SwapOrder, error: unknown) => void
}

/** Logs a warning about one load, with its duration so far. */
type Warn = (message: string, fields?: object) => void

/** Loads under way, at most one per node, and the errors of the last failed ones. */
export class Loads {
  readonly #options: LoadsOptions
  readonly #underWay = new Map<string, SwapOrder>()
  /** What the loader threw when the last load of a model on a node failed. By node, then by model. */
  readonly #failures = new Map<string, Map<string, unknown>>()

  constructor(options: LoadsOptions) {
    this.#options = options
  }

  /** Nodes with a load under way. */
  get nodes(): string[] {
    return [...this.#underWay.keys()]
  }

  /** The error of the last load of a model on a node; undefined if it did not fail. */
  failure(node: string, model: string): unknown {
    return this.#failures.get(node)?.get(model)
  }

  /** Forgets the failures on nodes that left the fleet. */
  keepOnly(nodes: ReadonlyMap<string, unknown>): void {
    for (const name of this.#failures.keys()) if (!nodes.has(name)) this.#failures.delete(name)
  }

  /** Loads a model and reports the end. @param expectedS expected duration in seconds. */
  async begin(order: SwapOrder, expectedS: number): Promise<void> {
    const { loader, clock } = this.#options
    const { name } = order.node
    const startedAt = clock.now()
    const warn = (message: string, fields: object = {}) => {
      const seconds = Math.round((clock.now() - startedAt) / 1000)
      this.#options.log.warn(message, { node: name, model: order.model, seconds, ...fields })
    }
    const hungAfterMs = Math.max(hungMs, hungTimes * expectedS * 1000)
    const cancelWarning = clock.after(hungAfterMs, () =>
      warn('a model load hangs: look at the log of Ollama there'),
    )
    this.#underWay.set(name, order)
    const [result] = await Promise.allSettled([loader.swap(order)])
    cancelWarning()
    // The node left the fleet and came back meanwhile: only the load that began there since counts.
    if (this.#underWay.get(name) !== order) return
    this.#underWay.delete(name)
    if (result.status === 'fulfilled') this.#end(order, result.value, warn)
    else this.#fail(order, result.reason, warn)
  }

  #end(order: SwapOrder, swapped: Swapped, warn: Warn): void {
    const { node, model } = order
    const ok = 'loadS' in swapped
    if (ok) this.#failures.get(node.name)?.delete(model)
    else warn('models were not unloaded in time', swapped)
    this.#options.tell({ type: 'swapped', node: node.name, model, ok, loadS: 0, ...swapped })
  }

  #fail(order: SwapOrder, error: unknown, warn: Warn): void {
    const { node, model } = order
    const isBusy = error instanceof LoadError && error.isBusy
    const isOurs = error instanceof ProxyError && error.code === 'shutting_down'
    if (!isBusy && !isOurs) warn('a model load failed', { reason: messageOf(error) })
    const failures = this.#failures.get(node.name) ?? new Map<string, unknown>()
    this.#failures.set(node.name, failures.set(model, error))
    this.#options.failed(order, error)
    this.#options.tell({ type: 'swapped', node: node.name, model, ok: false, isBusy, loadS: 0 })
  }
}
