import type { Clock } from '../../shared/clock.ts'
import { messageOf, ProxyError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { SchedulerEvent } from '../events.ts'
import { LoadError, type Loader, type SwapOrder, type Swapped } from './loader.ts'

/** A load is taken to hang after so many milliseconds, and so many times longer than it should (docs/routing.md#loads). */
const hungMs = 60_000
const hungTimes = 3

interface LoadsOptions {
  readonly loader: Pick<Loader, 'swap'>
  readonly clock: Clock
  readonly log: Pick<Log, 'warn'>
  /** How a load ended, for the core. */
  readonly tell: (event: Extract<SchedulerEvent, { type: 'swapped' }>) => void
  /** A load failed; called before the core is told. @param error what its loader threw. */
  readonly failed: (order: SwapOrder, error: unknown) => void
}

/** Says something of one load, and for how long it has been under way. */
type Warn = (message: string, fields?: object) => void

/** Loads under way, at most one per node, and why the last ones failed. */
export class Loads {
  readonly #options: LoadsOptions
  readonly #underWay = new Map<string, SwapOrder>()
  /** Of the last load of a model on a node, if it failed: what its loader threw. By node, then by model. */
  readonly #failures = new Map<string, Map<string, unknown>>()

  constructor(options: LoadsOptions) {
    this.#options = options
  }

  /** Nodes that were asked for a load. */
  get nodes(): string[] {
    return [...this.#underWay.keys()]
  }

  /** Why the last load of a model on a node failed; undefined when it did not. */
  failure(node: string, model: string): unknown {
    return this.#failures.get(node)?.get(model)
  }

  /** Forgets failures on nodes that left the fleet. */
  keepOnly(nodes: ReadonlyMap<string, unknown>): void {
    for (const name of this.#failures.keys()) if (!nodes.has(name)) this.#failures.delete(name)
  }

  /** Has a model loaded, and tells when that is over. @param expectedS seconds that it should take. */
  async begin(order: SwapOrder, expectedS: number): Promise<void> {
    const { loader, clock } = this.#options
    const { name } = order.node
    const startedAt = clock.now()
    const warn = (message: string, fields: object = {}) => {
      const seconds = Math.round((clock.now() - startedAt) / 1000)
      this.#options.log.warn(message, { node: name, model: order.model, seconds, ...fields })
    }
    const hungAfterMs = Math.max(hungMs, hungTimes * expectedS * 1000)
    const cancelWarning = clock.after(hungAfterMs, () => warn('a model load hangs'))
    this.#underWay.set(name, order)
    const [result] = await Promise.allSettled([loader.swap(order)])
    cancelWarning()
    // Its node left the fleet and came back meanwhile: what counts is the load that was begun there since.
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
