import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import { admit } from './admit.ts'
import { answerFrom } from './answers.ts'
import { authenticate } from './authenticate.ts'
import type { Dispatch } from './dispatch.ts'
import { ClientGone, type Exchange, openExchange } from './exchange.ts'
import { guard } from './guard.ts'
import { observe } from './observe.ts'
import { readBody } from './read.ts'
import { refuse } from './refuse.ts'
import { findRoute } from './routes.ts'

interface PipelineOptions {
  readonly snapshot: CurrentSnapshot
  readonly dispatch: Dispatch
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** The data listener is bound to loopback. */
  readonly loopback: boolean
}

/** The path of a request, in its order. Each line is one file; whatever throws on the way ends in `refuse`. */
export class Pipeline {
  readonly #options: PipelineOptions

  constructor(options: PipelineOptions) {
    this.#options = options
  }

  /** Answers one request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const exchange = openExchange(request, response, this.#options.clock, expectsContinue)
    try {
      await this.#walk(exchange)
    } catch (error) {
      this.#end(exchange, error)
    } finally {
      observe(exchange, this.#options.snapshot.get(), this.#options)
    }
  }

  async #walk(exchange: Exchange): Promise<void> {
    const { dispatch, clock, loopback } = this.#options
    const snapshot = this.#options.snapshot.get()
    const { request, trace } = exchange

    guard(exchange)
    const route = findRoute(request.method ?? '', exchange.path)
    trace.api = route.action === 'forward' ? route.api : 'inventory'
    const caller = authenticate(request.headers, snapshot, { clock, loopback: loopback || isOpen(route) })
    trace.tenant = caller.tenant
    if (route.action === 'answer') return answerFrom(snapshot, route.answer, exchange, caller)

    const body = await readBody(exchange, snapshot.config.limits.body_bytes)
    const admission = admit(exchange, route, caller, body, snapshot)
    trace.model = admission.ask.model
    return dispatch.run(exchange, admission, snapshot)
  }

  #end(exchange: Exchange, error: unknown): void {
    const { trace } = exchange
    trace.error = error
    if (error instanceof ClientGone || exchange.signal.aborted) {
      trace.outcome = 'client_cancelled'
      exchange.response.destroy()
      return
    }
    refuse(exchange, error instanceof ProxyError ? error : new ProxyError('internal', {}, { cause: error }))
  }
}

function isOpen(route: ReturnType<typeof findRoute>): boolean {
  return route.action === 'answer' && route.open
}
