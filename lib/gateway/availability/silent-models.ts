import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Upstream } from './upstream.ts'

/** Milliseconds of silence until it counts as a fault of the node. */
const leastMs = 8_000

interface SilentModelsOptions {
  readonly upstreams: () => Iterable<Upstream>
  /** Whether a node had a model in memory when it was last probed. */
  readonly hasInMemory: (node: string, model: string) => boolean
  readonly clock: Clock
  readonly log: Pick<Log, 'info' | 'warn'>
  readonly metrics: Pick<Metrics, 'nodeSwallows'>
}

/**
 * Finds nodes that take requests and respond to none while others do, keeps requests from them, and warns the
 * operator: only a restart of Ollama there helps. When another model of the node responds, only the silent model is
 * ejected.
 */
export class SilentModels {
  readonly #options: SilentModelsOptions
  /** Silent models that a warning was logged for, by node. */
  readonly #told = new Map<string, Set<string>>()

  constructor(options: SilentModelsOptions) {
    this.#options = options
  }

  /** A request for a model, sent to a node then, is overdue. */
  overdue(node: string, upstream: Upstream, model: string, sentAt: number): void {
    const silence = upstream.silence(model)
    silence.overdue(sentAt, this.#options.clock.now())
    const { since } = silence
    if (since === null || this.#options.clock.now() < since + leastMs) return
    // The node is unavailable already, for all models.
    if (upstream.isFrozen) return
    // The model is being loaded again, and responds when that is done.
    if (!this.#options.hasInMemory(node, model)) return
    const othersHere = upstream.wasHeardSince(since, silence)
    if (!othersHere && !this.#answersElsewhere(upstream, since)) return
    this.#tell(node, upstream, model, since)
    if (othersHere) upstream.ejectModel(model)
    else upstream.breaker.trip()
  }

  /** A response for a model began. */
  answered(node: string, model: string): void {
    const models = this.#told.get(node)
    if (!models?.delete(model)) return
    if (models.size === 0) this.forget(node)
    this.#options.log.info('node answers chats again', { node, model })
  }

  /** The node has left the fleet, or none of its models is silent any more. */
  forget(node: string): void {
    if (this.#told.delete(node)) this.#options.metrics.nodeSwallows.set({ node }, 0)
  }

  #answersElsewhere(than: Upstream, since: number): boolean {
    for (const upstream of this.#options.upstreams())
      if (upstream !== than && upstream.wasHeardSince(since)) return true
    return false
  }

  #tell(node: string, upstream: Upstream, model: string, since: number): void {
    const models = this.#told.get(node) ?? new Set<string>()
    this.#told.set(node, models)
    if (models.has(model)) return
    models.add(model)
    const { clock, log, metrics } = this.#options
    const requests = upstream.silence(model).count
    metrics.nodeSwallows.set({ node }, 1)
    const hasReplied = upstream.hasRepliedSince(since)
    const what = hasReplied ? 'answers probes, swallows chats' : 'takes chats and answers none'
    const seconds = Math.round((clock.now() - since) / 1000)
    log.warn(`node ${what}: restart Ollama there`, { node, model, requests, seconds })
  }
}
