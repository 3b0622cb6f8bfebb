import type { Config } from '../../fleet/config.ts'
import { keepAliveOf } from '../../fleet/keep-alive.ts'
import { readVariant } from '../../fleet/models/variant.ts'
import type { NodeView } from '../../fleet/node.ts'
import { embeds } from '../../fleet/request-spec.ts'
import type { CurrentSnapshot } from '../../fleet/snapshot.ts'
import { LoadError, type Loader, type SwapOrder, type Swapped } from '../../scheduler/fleet/loader.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { UpstreamPool } from '../availability/upstream-pool.ts'
import { isForeign } from '../response/not-ollama.ts'
import { errorText, parseObject } from '../response/ollama-json.ts'
import type { Refused, UpstreamFailure, UpstreamOutcome } from '../response/outcome.ts'
import type { NodeClient } from '../upstream/node-client.ts'
import { type NodeRequest, unload } from '../upstream/unload.ts'
import { reasonOf } from './final-failure.ts'
import { recordOutcome } from './record-outcome.ts'

/**
 * Memory of a GPU is free 0.5 to 1.5 s after `/api/ps` stops listing the model that used it
 * (docs/ollama.md#scheduling). When a load begins sooner, Ollama evicts another model.
 */
const recoveryMs = 1_500

interface ModelLoaderOptions {
  readonly client: NodeClient
  readonly snapshot: CurrentSnapshot
  readonly upstreams: UpstreamPool
  readonly clock: Clock
  readonly metrics: Metrics
  /** See UpstreamAttemptsOptions. */
  readonly requestProbe: (node: string) => void
}

/** The load that a request waited for has failed. */
export class LoadFailed extends LoadError {
  override readonly name = 'LoadFailed'
  readonly node: string
  readonly failure: UpstreamFailure

  constructor(node: string, failure: UpstreamFailure) {
    super(saidIn(failure))
    this.node = node
    this.failure = failure
  }

  get isBusy(): boolean {
    const { failure } = this
    // Lack of files or ports of this instance says nothing about the model, and is soon over.
    if (failure.kind === 'node-failed') return failure.fault === 'own-fault'
    return [429, 503].includes(failure.status)
  }
}

/**
 * Loads models with requests of llamero itself. Ollama cancels a load when the request that began it leaves, and the
 * next one starts from the beginning (docs/ollama.md#scheduling); a request of llamero without a prompt outlives the
 * callers that wait for it. llamero also unloads the victims: when Ollama makes room by itself, it may hang
 * (docs/ollama.md#scheduling).
 */
export class ModelLoader implements Loader {
  readonly #options: ModelLoaderOptions
  readonly #stopped = new AbortController()

  constructor(options: ModelLoaderOptions) {
    this.#options = options
  }

  /** Cancels the loads in progress. They must not outlive the sockets to the nodes. */
  stop(): void {
    this.#stopped.abort(new ProxyError('shutting_down'))
  }

  /** See Loader. @throws LoadFailed; ProxyError `shutting_down` once it is stopped. */
  async swap(order: SwapOrder): Promise<Swapped> {
    const { clock, metrics, upstreams } = this.#options
    const { node, model } = order
    const kept = await this.#unload(order)
    // Ollama would wait for the victims, with all later loads behind this one.
    if (kept.length > 0) return { kept }
    metrics.modelLoads.inc({ node: node.name, model })
    const startedAt = clock.now()
    const failure = await this.#load(order)
    if (failure) throw new LoadFailed(node.name, failure)
    const tookMs = clock.now() - startedAt
    upstreams.expected.loaded(model, tookMs)
    return { loadS: tookMs / 1000 }
  }

  /** See Loader. Has the node probed afterwards, as its memory is not what the others believe. */
  async unload(node: NodeView, models: readonly string[]): Promise<void> {
    const { clock, requestProbe } = this.#options
    const send = (request: NodeRequest) => this.#send({ node, model: models[0] ?? '' }, request)
    await unload(models, { send, clock, signal: this.#stopped.signal })
    requestProbe(node.name)
  }

  /** A load counts once for the health of the node, however many requests wait for it. */
  async #load(order: SwapOrder): Promise<UpstreamFailure | null> {
    const { upstreams, requestProbe, metrics } = this.#options
    const { node } = order
    const upstream = upstreams.of(node)
    const permit = upstream.breaker.begin()
    try {
      const failure = failureOf(
        await this.#send(order, loadRequest(order, this.#options.snapshot.get().config)),
      )
      if (!failure) {
        permit.settle('good')
        return null
      }
      recordOutcome(failure, order, { node: node.name, upstream, permit, requestProbe })
      const result = failure.kind === 'node-failed' ? failure.fault : failure.kind
      metrics.attempts.inc({ node: node.name, result })
      return failure
    } finally {
      permit.settle('neutral') // as in UpstreamAttempts
    }
  }

  /** Returns the victims that stayed in memory. When the node does not say what is loaded, they count as unloaded. */
  async #unload(order: SwapOrder): Promise<readonly string[]> {
    const { victims } = order
    if (victims.length === 0) return []
    const { clock } = this.#options
    const { signal } = this.#stopped
    const send = (request: NodeRequest) => this.#send(order, request)
    const kept = (await unload(victims, { send, clock, signal })) ?? []
    if (kept.length === 0) await clock.sleep(recoveryMs, signal)
    return kept
  }

  async #send(
    order: Pick<SwapOrder, 'node' | 'model'>,
    { method, path, body, limitMs }: NodeRequest,
  ): Promise<UpstreamOutcome> {
    const { signal } = this.#stopped
    signal.throwIfAborted()
    const outcome = await this.#options.client.send(order.node, {
      method,
      path,
      requestId: 'llamero-load',
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(body),
      timeouts: this.#timeouts,
      silentMs: limitMs,
      // A frozen node may answer again: worth waiting for when no other node has the model.
      canFailOver: (reason) => reason !== 'failing' && (reason !== 'frozen' || this.#isElsewhere(order)),
      signal,
    })
    signal.throwIfAborted()
    return outcome
  }

  /** Whether another node that responds has the model. */
  #isElsewhere({ node, model }: Pick<SwapOrder, 'node' | 'model'>): boolean {
    const { snapshot, upstreams } = this.#options
    const others = [...snapshot.get().nodes.values()].filter(({ name }) => name !== node.name)
    return others.some(
      ({ name, available, onDisk }) => available && onDisk.has(model) && !upstreams.isInDoubt(name),
    )
  }

  get #timeouts() {
    return this.#options.snapshot.get().config.timeouts
  }
}

/** The failure, in the node's own words where there are any. */
function saidIn(failure: UpstreamFailure): string {
  if (failure.kind === 'node-failed') return failure.cause.message
  return errorText(parseObject(failure.body.toString('utf8')) ?? {}) ?? reasonOf(failure)
}

function failureOf(outcome: UpstreamOutcome): UpstreamFailure | null {
  if (outcome.kind === 'refused') return saysNothing(outcome) ? null : outcome
  return outcome.kind === 'node-failed' ? outcome : null
}

/**
 * Loaded, or refused for a reason of the load request: the caller's own request may want something else, and gets its
 * own refusal.
 */
function saysNothing(refused: Refused): boolean {
  return refused.status < 300 || (refused.status === 400 && !isForeign(refused))
}

/** The request without a prompt that loads the model for requests of `api`. */
function loadRequest({ node, api: client, model, variant }: SwapOrder, config: Config): NodeRequest {
  const limitMs = config.timeouts.first_token
  const { shift, ...options } = readVariant(variant)
  const hasOptions = Object.keys(options).length > 0
  const common = {
    model,
    ...keepAliveOf(node.spec, config),
    ...(hasOptions && { options }),
    ...(shift !== undefined && { shift }),
  }
  return embeds(client)
    ? { method: 'POST', path: '/api/embed', body: JSON.stringify({ ...common, input: '' }), limitMs }
    : { method: 'POST', path: '/api/generate', body: JSON.stringify({ ...common, stream: false }), limitMs }
}
