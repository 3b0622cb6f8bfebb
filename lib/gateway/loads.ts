import type { Api } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Grant } from '../scheduler/scheduler.ts'
import type { Clock } from '../shared/clock.ts'
import { orAborted } from './aborted.ts'
import { asObject, parseObject } from './answer-json.ts'
import type { Forwarder } from './forward.ts'
import { HeldAnswer } from './held-answer.ts'
import { requestHeaders } from './order.ts'
import type { Failure } from './outcome.ts'
import { type Payload, Upload } from './upload.ts'
import type { Upstream } from './upstreams.ts'

/** What a request needs loaded, and where. */
export interface Wanted {
  readonly grant: Grant
  readonly upstream: Upstream
  readonly api: Api
  readonly model: string
  /** The request's body: its load-time options decide which runner serves it. An upload has none. */
  readonly body: Payload
  readonly snapshot: Snapshot
  /** Whether another node could serve the request. */
  readonly mayLeave: () => boolean
}

/** Another value of one of these needs another runner (sheet ollama-api.md §1.3, §2.3). */
const loadOptions = [
  'num_ctx',
  'num_batch',
  'num_gpu',
  'main_gpu',
  'use_mmap',
  'num_thread',
  'draft_num_predict',
]
/** A larger body is not read for its options: its request loads the model itself. */
const maxReadBytes = 1024 * 1024
/** The leader's probes tell within a few seconds that the model is in memory; until then a finished load is remembered. */
const rememberedMs = 10_000

const never = new AbortController().signal

/**
 * Loads that llamero owns. Ollama gives up a load when the request that began it leaves, and the next one starts from
 * nothing (sheet ollama-api.md §2.8): so a request without a prompt loads the model, requests wait for it, and whoever
 * leaves leaves alone. Invariant: a variant of a model is loaded on a node by at most one such request at a time.
 */
export class Loads {
  readonly #forwarder: Forwarder
  readonly #clock: Clock
  readonly #loads = new Map<string, Promise<Failure | null>>()

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
    const request = loadRequest(wanted)
    if (!request) return Promise.resolve(null)
    const key = `${wanted.grant.node.name} ${request.path} ${request.body}`
    let load = this.#loads.get(key)
    if (!load) {
      begun()
      load = this.#load(wanted, request)
      this.#loads.set(key, load)
      void load.then((failure) => {
        if (failure) this.#loads.delete(key)
        else this.#clock.after(rememberedMs, () => this.#loads.delete(key))
      })
    }
    return orAborted(load, signal)
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
    if (outcome.kind === 'refused') return outcome.status < 300 ? null : outcome
    return outcome.kind === 'node-failed' ? outcome : null
  }
}

interface LoadRequest {
  readonly path: string
  readonly body: string
}

/** The request without a prompt that loads what `wanted` needs; null when its body is too large to read its options. */
function loadRequest({ api, model, body }: Wanted): LoadRequest | null {
  const text = body instanceof Upload ? Buffer.alloc(0) : body
  if (text.length > maxReadBytes) return null
  const asked = asObject(parseObject(text.toString('utf8'))?.['options']) ?? {}
  const named = Object.entries(asked).filter(([name]) => loadOptions.includes(name))
  const options = Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)))
  const isNative = api.startsWith('ollama_')
  const common = { model, ...(isNative && named.length > 0 && { options }) }
  return /embed/.test(api)
    ? { path: '/api/embed', body: JSON.stringify({ ...common, input: '' }) }
    : { path: '/api/generate', body: JSON.stringify({ ...common, stream: false }) }
}
