import type { Ask } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { readVariant } from '../fleet/variant.ts'
import type { Grant } from '../scheduler/scheduler.ts'
import type { Clock } from '../shared/clock.ts'
import { orAborted } from './aborted.ts'
import type { Forwarder } from './forward.ts'
import { HeldAnswer } from './held-answer.ts'
import { requestHeaders } from './order.ts'
import type { Failure, Refused } from './outcome.ts'
import type { Upstream } from './upstreams.ts'

/** What a request needs loaded, and where. */
export interface Wanted {
  readonly grant: Grant
  readonly upstream: Upstream
  readonly ask: Ask
  readonly snapshot: Snapshot
  /** Whether another node could serve the request. */
  readonly mayLeave: () => boolean
}

/** The leader's probes tell within a few seconds that the model is in memory; until then a finished load is remembered. */
const rememberedMs = 10_000

/** What one node loads, or has just loaded, of one model. */
interface Loading {
  readonly variant: string
  /** A model may only be for embeddings: its load is asked for on the path that the request goes to. */
  readonly byPath: Map<string, Promise<Failure | null>>
}

const never = new AbortController().signal

/**
 * Loads that llamero owns. Ollama gives up a load when the request that began it leaves, and the next one starts from
 * nothing (sheet ollama-api.md §2.8): so a request without a prompt loads the model, requests wait for it, and whoever
 * leaves leaves alone. Invariant: a variant of a model is loaded on a node by at most one such request at a time.
 */
export class Loads {
  readonly #forwarder: Forwarder
  readonly #clock: Clock
  /** By node and model: another variant takes the place of the one before, as it does on the node. */
  readonly #loads = new Map<string, Loading>()

  constructor(forwarder: Forwarder, clock: Clock) {
    this.#forwarder = forwarder
    this.#clock = clock
  }

  /**
   * Resolves to null when the model is in the node's memory, or to how its load failed.
   *
   * @throws the signal's reason when it aborts; the load goes on.
   */
  ready(wanted: Wanted, signal: AbortSignal, begun: () => void): Promise<Failure | null> {
    const { grant, ask } = wanted
    const place = `${grant.node.name} ${ask.model}`
    const here = this.#loads.get(place)
    const loading: Loading =
      here?.variant === ask.variant ? here : { variant: ask.variant, byPath: new Map() }
    this.#loads.set(place, loading)
    const request = loadRequest(ask)
    let load = loading.byPath.get(request.path)
    if (!load) {
      begun()
      load = this.#load(wanted, request)
      loading.byPath.set(request.path, load)
      void load.then((failure) => {
        if (failure) this.#forget(place, loading, request)
        else this.#clock.after(rememberedMs, () => this.#forget(place, loading, request))
      })
    }
    return orAborted(load, signal)
  }

  #forget(place: string, { byPath }: Loading, { path }: LoadRequest): void {
    byPath.delete(path)
    if (byPath.size === 0 && this.#loads.get(place)?.byPath === byPath) this.#loads.delete(place)
  }

  async #load(
    { grant, upstream, snapshot, mayLeave }: Wanted,
    { path, body }: LoadRequest,
  ): Promise<Failure | null> {
    const { timeouts } = snapshot.config
    const bytes = Buffer.from(body)
    const outcome = await this.#forwarder.send({
      upstream,
      method: 'POST',
      path,
      headers: requestHeaders({
        caller: { 'content-type': 'application/json' },
        node: grant.node.spec.headers,
        host: upstream.target.host,
        bodyBytes: bytes.length,
        requestId: 'llamero-load',
      }),
      body: bytes,
      timeouts,
      patience: { expectedMs: timeouts.first_token, atMostMs: timeouts.first_token, mayLeave },
      deadlineAt: this.#clock.now() + timeouts.request,
      signal: never,
      resent: () => {},
      receive: (head) => new HeldAnswer(head),
    })
    if (outcome.kind === 'refused') return saysNothing(outcome) ? null : outcome
    return outcome.kind === 'node-failed' ? outcome : null
  }
}

/**
 * Loaded; or refused as a request would be that the model cannot serve: what the caller asked for may be another, and
 * its own refusal names it as the caller did.
 */
function saysNothing({ status }: Refused): boolean {
  return status < 300 || status === 400
}

interface LoadRequest {
  readonly path: string
  readonly body: string
}

/** The request without a prompt that loads what `ask` needs. */
function loadRequest({ api, model, variant }: Ask): LoadRequest {
  const { shift, ...options } = readVariant(variant)
  const hasOptions = Object.keys(options).length > 0
  const common = { model, ...(hasOptions && { options }), ...(shift !== undefined && { shift }) }
  return /embed/.test(api)
    ? { path: '/api/embed', body: JSON.stringify({ ...common, input: '' }) }
    : { path: '/api/generate', body: JSON.stringify({ ...common, stream: false }) }
}
