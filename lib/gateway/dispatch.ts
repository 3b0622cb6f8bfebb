import type { OutgoingHttpHeaders } from 'node:http'
import type { Ask } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Grant, Scheduler } from '../scheduler/scheduler.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Admission } from './admit.ts'
import type { Outcome } from './attempt.ts'
import { ClientGone, type Exchange } from './exchange.ts'
import type { Forwarder } from './forward.ts'
import { requestHeaders } from './order.ts'
import { judge } from './retry.ts'
import type { Upstreams } from './upstreams.ts'

interface DispatchOptions {
  readonly scheduler: Scheduler
  readonly upstreams: Upstreams
  readonly forwarder: Forwarder
  readonly clock: Clock
  readonly metrics: Metrics
  /** Name of this instance. */
  readonly instance: string
}

type Failure = Extract<Outcome, { kind: 'refused' | 'node-failed' }>

/** The part of a request's path that may repeat: wait for a slot, try the node, and on its failure try another. */
export class Dispatch {
  readonly #options: DispatchOptions

  constructor(options: DispatchOptions) {
    this.#options = options
  }

  /**
   * Resolves when the caller has the answer, or the node's own refusal when no other node can do better.
   *
   * @throws ProxyError when every try failed; ClientGone when the caller left.
   */
  async run(exchange: Exchange, admission: Admission, snapshot: Snapshot): Promise<void> {
    const tried = new Set<string>()
    const ask: Ask = { ...admission.ask, tried }
    let failure: Failure | null = null
    do {
      const grant = await this.#acquire(exchange, ask, failure)
      if (!grant) break
      tried.add(grant.node.name)
      failure = await this.#attempt(exchange, admission, snapshot, grant)
      if (!failure) return
    } while (judge(failure).elsewhere && tried.size < snapshot.config.routing.attempts)
    if (failure) giveUp(exchange, failure)
  }

  /** A grant, or null when a node has failed already and no other is left: then its failure is the answer. */
  async #acquire(exchange: Exchange, ask: Ask, failure: Failure | null): Promise<Grant | null> {
    const { scheduler, metrics } = this.#options
    const since = this.#options.clock.now()
    try {
      const grant = await scheduler.acquire(ask, exchange.signal)
      if (failure) metrics.retries.inc({ reason: reasonOf(failure) })
      metrics.queueSeconds.observe({ outcome: 'granted' }, grant.queuedMs / 1000)
      return grant
    } catch (error) {
      metrics.queueSeconds.observe({ outcome: 'refused' }, (this.#options.clock.now() - since) / 1000)
      if (failure && error instanceof ProxyError) return null
      throw error
    }
  }

  /** One try. Resolves to null when the caller has the answer. */
  async #attempt(
    exchange: Exchange,
    admission: Admission,
    snapshot: Snapshot,
    grant: Grant,
  ): Promise<Failure | null> {
    using _slot = grant
    const { forwarder, upstreams, metrics, clock } = this.#options
    const { node } = grant
    const upstream = upstreams.of(node)
    const trial = upstream.breaker.begin()
    this.#note(exchange, admission, grant)
    const outcome = await forwarder.send({
      upstream,
      method: 'POST',
      path: exchange.path,
      headers: requestHeaders({
        caller: exchange.request.headers,
        node: node.spec.headers,
        host: upstream.target.host,
        bodyBytes: admission.body.length,
        requestId: exchange.id,
      }),
      body: admission.body,
      response: exchange.response,
      responseHeaders: this.#responseHeaders(exchange, snapshot),
      timeouts: snapshot.config.timeouts,
      signal: exchange.signal,
      answered: (status, contentType) => {
        exchange.trace.contentType = contentType
        exchange.trace.firstByteMs = clock.now() - exchange.startedAt
        // The breaker learns at the head: a good stream may go on for an hour.
        if (status < 400) trial.settle('good')
      },
    })
    trial.settle(judge(outcome).sign)
    metrics.attempts.inc({
      node: node.name,
      result: outcome.kind === 'node-failed' ? outcome.fault : outcome.kind,
    })
    if (outcome.kind === 'client-gone') throw new ClientGone(outcome.reason)
    if (outcome.kind !== 'done') return outcome
    exchange.trace.outcome = 'ok'
    return null
  }

  #note({ trace }: Exchange, { isFallback }: Admission, { node, reason, queuedMs }: Grant): void {
    trace.node = node.name
    trace.reason = isFallback ? 'fallback' : reason
    trace.attempts++
    trace.queuedMs += queuedMs
    this.#options.metrics.decisions.inc({ reason: trace.reason })
  }

  #responseHeaders({ publicId, trace }: Exchange, { config }: Snapshot): OutgoingHttpHeaders {
    return {
      'x-request-id': publicId,
      ...(config.headers.node ? { 'x-llamero-node': trace.node } : {}),
      ...(config.headers.instance ? { 'x-llamero-instance': this.#options.instance } : {}),
      'x-llamero-attempts': trace.attempts,
      'x-llamero-queue-ms': Math.round(trace.queuedMs),
      'x-llamero-reason': trace.reason,
    }
  }
}

/** The last try failed. What the node itself said is the most honest answer; where it said nothing, we do. */
function giveUp({ response, trace, publicId }: Exchange, failure: Failure): void {
  trace.outcome = 'upstream_error'
  if (failure.kind === 'node-failed') {
    const timedOut = failure.fault.endsWith('timeout') || failure.fault === 'stalled'
    if (timedOut) trace.outcome = 'timeout'
    throw new ProxyError(
      timedOut ? 'node_timeout' : 'node_failed',
      { reason: reasonOf(failure) },
      { cause: failure.cause },
    )
  }
  const headers: OutgoingHttpHeaders = {
    'content-type': failure.contentType,
    'content-length': failure.body.length,
    'x-request-id': publicId,
    'x-llamero-attempts': trace.attempts,
  }
  if (failure.status === 503) headers['retry-after'] = '1'
  response.writeHead(failure.status, headers)
  response.end(failure.body)
}

function reasonOf(failure: Failure): string {
  return failure.kind === 'node-failed' ? failure.fault : `status-${failure.status}`
}
