import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CurrentSnapshot, Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Via } from '../shared/net/via.ts'
import { admitBody } from './admission/admit-body.ts'
import { admitForm } from './admission/admit-form.ts'
import { RequestBodies } from './body/request-bodies.ts'
import type { Dispatch } from './dispatch/dispatch.ts'
import { logAccess } from './http/access-log.ts'
import { authenticate, type Caller } from './http/authenticate.ts'
import { answerCors } from './http/cors.ts'
import { type Exchange, openExchange } from './http/exchange.ts'
import { type Action, type EndpointOf, type ForwardEndpoint, findEndpoint } from './http/find-endpoint.ts'
import { limitFlush } from './http/finish-response.ts'
import { OpenExchanges } from './http/open-exchanges.ts'
import { endWithError } from './http/refuse.ts'
import { checkRequest } from './http/request-checks.ts'
import type { BlobUploads } from './jobs/blob-uploads.ts'
import type { JobEndpoint } from './jobs/job-endpoint.ts'
import { answerFromSnapshot } from './models/answer-from-snapshot.ts'
import { countTokens } from './models/count-tokens.ts'
import type { Passthrough } from './models/passthrough.ts'
import type { ShowCache } from './models/show-cache.ts'
import type { UnloadEverywhere } from './models/unload-everywhere.ts'

interface PipelineOptions {
  readonly snapshot: CurrentSnapshot
  readonly dispatch: Dispatch
  readonly shows: ShowCache
  readonly unloads: UnloadEverywhere
  readonly management: JobEndpoint
  readonly passthrough: Passthrough
  readonly blobUploads: BlobUploads
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly via: Via
  /** The data listener is bound to loopback. */
  readonly loopback: boolean
}

type Handler<R> = (exchange: Exchange, endpoint: R, caller: Caller, snapshot: Snapshot) => Promise<void>

/** The way of a request. Each step is in the file that is named after it; what it throws is sent by `endWithError`. */
export class Pipeline {
  readonly #options: PipelineOptions
  readonly #handlers: { readonly [A in Action]: Handler<EndpointOf<A>> }
  readonly bodies: RequestBodies
  readonly exchanges = new OpenExchanges()

  constructor(options: PipelineOptions) {
    const { shows, management, passthrough, blobUploads, clock } = options
    const bodies = new RequestBodies(clock)
    this.#options = options
    this.bodies = bodies
    this.#handlers = {
      answer: (exchange, { response }, caller, snapshot) =>
        answerFromSnapshot(snapshot, response, exchange, caller),
      show: (exchange, _, caller, snapshot) => shows.answer(exchange, caller, bodies, snapshot),
      'count-tokens': (exchange, _, caller, snapshot) => countTokens(exchange, caller, bodies, snapshot),
      manage: (exchange, { job }, caller, snapshot) =>
        management.answer(exchange, job, caller, bodies, snapshot),
      blob: (exchange, _, caller, snapshot) => blobUploads.answer(exchange, caller, bodies, snapshot),
      pass: (exchange, endpoint, caller, snapshot) =>
        passthrough.answer(exchange, endpoint, caller, bodies, snapshot),
      forward: (exchange, endpoint, caller, snapshot) =>
        endpoint.body === 'form'
          ? this.#inferForm(exchange, endpoint, caller, snapshot)
          : this.#infer(exchange, endpoint, caller, snapshot),
    }
  }

  /** Answers one request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const exchange = openExchange(request, response, this.#options.clock, expectsContinue)
    this.exchanges.add(exchange)
    try {
      await this.#run(exchange)
    } catch (error) {
      endWithError(exchange, error)
    } finally {
      const snapshot = this.#options.snapshot.get()
      logAccess(exchange, snapshot, this.#options)
      limitFlush(response, snapshot.config.timeouts.idle_write)
    }
  }

  /** The steps of every request; the rest is done by the handler of its endpoint's action. */
  #run(exchange: Exchange): Promise<void> | undefined {
    const snapshot = this.#options.snapshot.get()
    checkRequest(exchange, this.#options.via)
    if (answerCors(exchange, snapshot.config)) return undefined
    const endpoint = findEndpoint(exchange.request.method ?? '', exchange.path, snapshot.config)
    exchange.trace.api = endpoint.action === 'forward' ? endpoint.api : endpoint.kind
    const caller = authenticate(exchange, endpoint, snapshot, this.#options)
    return this.#handle(endpoint.action, exchange, endpoint, caller, snapshot)
  }

  #handle<A extends Action>(
    action: A,
    exchange: Exchange,
    endpoint: EndpointOf<A>,
    caller: Caller,
    snapshot: Snapshot,
  ) {
    return this.#handlers[action](exchange, endpoint, caller, snapshot)
  }

  /** The steps of inference that follow: the body is read, the request is admitted, and dispatched to a node. */
  async #infer(
    exchange: Exchange,
    endpoint: ForwardEndpoint,
    caller: Caller,
    snapshot: Snapshot,
  ): Promise<void> {
    const { dispatch, unloads } = this.#options
    const share = this.bodies.share(exchange, caller)
    try {
      const { bytes } = await this.bodies.read(exchange, endpoint, share, snapshot.config)
      const { admitted, now } = await admitBody(exchange, endpoint, caller, bytes, this.#options)
      if (admitted.unloads) await unloads.answer(exchange, { api: endpoint.api, ...admitted.unloads }, now)
      else await dispatch.run(exchange, admitted, now)
    } finally {
      // By hand: V8 leaves `using` to its slow path, which would cost a hundredth of every request (Node 24).
      share[Symbol.dispose]()
    }
  }

  /** The same for a form, which is sent on while it comes. */
  #inferForm(
    exchange: Exchange,
    endpoint: ForwardEndpoint,
    caller: Caller,
    snapshot: Snapshot,
  ): Promise<void> {
    return this.bodies.withStream(exchange, caller, snapshot.config, async (body) => {
      const admitted = await admitForm(exchange, endpoint, caller, body, snapshot)
      await this.#options.dispatch.run(exchange, admitted, snapshot)
    })
  }
}
