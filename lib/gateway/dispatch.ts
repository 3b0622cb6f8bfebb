import type { OutgoingHttpHeaders } from 'node:http'
import type { Ask } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Grant } from '../scheduler/grant.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Admission } from './admit.ts'
import type { Trial } from './breaker.ts'
import { deliver } from './delivery.ts'
import { ClientGone, type Exchange } from './exchange.ts'
import { judge } from './failures.ts'
import type { Forwarder } from './forward.ts'
import { giveUp, reasonOf } from './give-up.ts'
import { LoadFailed } from './model-loader.ts'
import { type Order, type Patience, requestHeaders } from './order.ts'
import type { Failure, Outcome } from './outcome.ts'
import { rejectionOf } from './rejection.ts'
import { RetryBudget } from './retry.ts'
import { teach } from './teach.ts'
import { canRepeat } from './upload.ts'
import type { Upstream, Upstreams } from './upstreams.ts'

interface DispatchOptions {
  readonly scheduler: Scheduler
  readonly upstreams: Upstreams
  readonly forwarder: Forwarder
  readonly clock: Clock
  readonly metrics: Metrics
  /** Name of this instance. */
  readonly instance: string
  /** A node is not what the snapshot says: it cannot be reached, or lacks a model. */
  readonly doubt: (node: string) => void
}

/** A request while it is being dispatched: what does not change from one try to the next. */
interface Job {
  readonly exchange: Exchange
  readonly admission: Admission
  readonly snapshot: Snapshot
  readonly ask: Ask
  readonly tried: Set<string>
}

/** One try: where, and what the breaker learns from it. */
interface Try {
  readonly grant: Grant
  readonly upstream: Upstream
  readonly trial: Trial
}

/** The part of a request's path that may repeat: wait for a slot, try the node, and on its failure try another. */
export class Dispatch {
  readonly #options: DispatchOptions
  readonly #budget: RetryBudget

  constructor(options: DispatchOptions) {
    this.#options = options
    this.#budget = new RetryBudget(options.clock)
  }

  /**
   * Resolves when the caller has the answer, or the node's own refusal when no other node can do better.
   *
   * @throws ProxyError when every try failed; the reason of the exchange's signal when that ended it.
   */
  async run(exchange: Exchange, admission: Admission, snapshot: Snapshot): Promise<void> {
    const tried = new Set<string>()
    const ask = { ...admission.ask, tried }
    const job: Job = { exchange, admission, snapshot, ask, tried }
    exchange.trace.model = job.ask.model
    exchange.trace.class = job.ask.class
    this.#budget.earn()
    let failure: Failure | null = null
    do {
      const place = await this.#acquire(job, failure)
      if (!place) break
      failure = place instanceof LoadFailed ? this.#noteLoad(job, place) : await this.#try(job, place)
      if (!failure) return
    } while (await this.#mayRetry(job, failure))
    if (failure) giveUp(exchange, failure, this.#options.scheduler.loadRetryS(ask))
  }

  /**
   * A grant, or the failure of the load that it waited for; null when a node has failed already and no other is left: then
   * that node's failure is the answer.
   */
  async #acquire({ exchange, ask }: Job, failure: Failure | null): Promise<Grant | LoadFailed | null> {
    const { scheduler, metrics, clock } = this.#options
    const since = clock.now()
    try {
      const grant = await scheduler.acquire(ask, exchange.signal)
      if (failure) metrics.retries.inc({ reason: reasonOf(failure) })
      metrics.queueSeconds.observe({ class: ask.class, outcome: 'granted' }, grant.queuedMs / 1000)
      return grant
    } catch (error) {
      const waitedS = (clock.now() - since) / 1000
      const reason = rejectionOf(error)
      metrics.queueSeconds.observe({ class: ask.class, outcome: reason ? 'refused' : 'left' }, waitedS)
      if (reason) metrics.queueRejected.inc({ class: ask.class, reason })
      if (error instanceof LoadFailed) return error
      if (failure && error instanceof ProxyError) return null
      throw error
    }
  }

  async #mayRetry({ exchange, admission, snapshot, ask, tried }: Job, failure: Failure): Promise<boolean> {
    const { routing, timeouts } = snapshot.config
    if (!judge(failure, admission.ask.api).elsewhere || tried.size >= routing.attempts) return false
    if (this.#options.clock.now() >= exchange.startedAt + timeouts.request) return false
    if (!canRepeat(admission.body)) return false
    return this.#options.scheduler.couldServe(ask) && (await this.#budget.wait(exchange.signal))
  }

  /** One try. Resolves to null when the caller has the answer. */
  async #try(job: Job, grant: Grant): Promise<Failure | null> {
    using _slot = grant
    job.tried.add(grant.node.name)
    const { upstreams, forwarder } = this.#options
    const upstream = upstreams.of(grant.node)
    const trial = upstream.breaker.begin()
    this.#note(job, grant)
    const attempt = { grant, upstream, trial }
    try {
      return this.#conclude(job, attempt, await forwarder.send(this.#order(job, attempt)))
    } finally {
      trial.settle('neutral') // however it ended; a sign that was given already stands
    }
  }

  /** A node had the request wait for a load that failed. What that says of the node was told once, by the loader. */
  #noteLoad({ exchange: { trace }, tried }: Job, { node, failure }: LoadFailed): Failure {
    tried.add(node)
    trace.node = node
    trace.reason = 'cold-load'
    trace.attempts++
    return failure
  }

  #order(job: Job, { grant, upstream, trial }: Try): Order {
    const { exchange, admission, snapshot } = job
    const { clock, metrics } = this.#options
    const { node } = grant
    const { timeouts } = snapshot.config
    const sentAt = clock.now()
    return {
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
      timeouts,
      patience: this.#patience(job, upstream),
      deadlineAt: exchange.startedAt + timeouts.request,
      signal: exchange.signal,
      resent: () => metrics.attempts.inc({ node: node.name, result: 'stale-socket' }),
      receive: (head) => {
        exchange.trace.contentType = head.contentType
        exchange.trace.firstByteMs = clock.now() - exchange.startedAt
        // The breaker learns at the head: a good stream may go on for an hour.
        if (head.status < 400) {
          trial.settle('good')
          if (beginsEarly(admission)) grant.begun()
          this.#learn(job, upstream, clock.now() - sentAt)
        }
        const delivery = deliver(head, {
          api: job.ask.api,
          response: exchange.response,
          idleWriteMs: timeouts.idle_write,
          spelling: admission.spelling,
          responseHeaders: this.#responseHeaders(exchange, admission, snapshot),
          elapsedS: () => (clock.now() - sentAt) / 1000,
          malformed: (lines) => metrics.malformedLines.inc({ node: node.name }, lines),
        })
        grant.watch(() => delivery.tokens.output)
        return delivery
      },
    }
  }

  /** How long the node may be silent: the model is in its memory by now, so only the prompt and its work take time. */
  #patience(job: Job, upstream: Upstream): Patience {
    const { admission, snapshot, ask } = job
    const { first_token: atMostMs, whole_answer: wholeMs } = snapshot.config.timeouts
    const mayLeave = () =>
      canRepeat(admission.body) && this.#options.scheduler.couldServe(ask) && this.#budget.allows()
    if (!beginsEarly(admission)) return { expectedMs: wholeMs, atMostMs: wholeMs, mayLeave }
    return { expectedMs: Math.min(this.#limitMs(job, upstream), atMostMs), atMostMs, mayLeave }
  }

  #limitMs({ admission, ask }: Job, { firstTokens }: Upstream): number {
    return firstTokens.limitMs(ask.model, admission.body.length ?? 0)
  }

  #learn({ admission, ask }: Job, { firstTokens }: Upstream, tookMs: number): void {
    if (beginsEarly(admission)) firstTokens.observe(ask.model, admission.body.length ?? 0, tookMs)
  }

  /** What the outcome says of the node goes to its breaker, and the outcome to the metrics. */
  #conclude(job: Job, { grant, upstream, trial }: Try, outcome: Outcome): Failure | null {
    const { exchange, ask } = job
    const { doubt } = this.#options
    const verdict = teach(outcome, ask, { node: grant.node.name, upstream, trial, doubt })
    if (verdict.effect === 'busy') grant.busy()
    if (outcome.kind === 'done') grant.end(outcome.timings, outcome.tokens.output)
    else if (outcome.kind !== 'client-gone') grant.failed()
    this.#options.metrics.attempts.inc({
      node: grant.node.name,
      result: outcome.kind === 'node-failed' ? outcome.fault : outcome.kind,
    })
    if (outcome.kind === 'client-gone') throw exchange.signal.reason ?? new ClientGone(outcome.reason)
    if (outcome.kind === 'refused') return outcome
    exchange.trace.tokens = outcome.tokens
    if (outcome.kind === 'node-failed') {
      if (outcome.fault === 'first-token-timeout') this.#learn(job, upstream, this.#limitMs(job, upstream))
      return outcome
    }
    exchange.trace.outcome = 'ok'
    return null
  }

  #note({ exchange: { trace }, admission }: Job, { node, reason, queuedMs }: Grant): void {
    trace.node = node.name
    trace.reason = admission.isFallback ? 'fallback' : reason
    trace.attempts++
    trace.queuedMs += queuedMs
    this.#options.metrics.decisions.inc({ reason: trace.reason })
  }

  #responseHeaders(
    { publicId, trace }: Exchange,
    { adjusted }: Admission,
    { config }: Snapshot,
  ): OutgoingHttpHeaders {
    const headers: OutgoingHttpHeaders = { 'x-request-id': publicId }
    if (config.headers.node) headers['x-llamero-node'] = trace.node
    if (config.headers.instance) headers['x-llamero-instance'] = this.#options.instance
    headers['x-llamero-attempts'] = trace.attempts
    headers['x-llamero-queue-ms'] = Math.round(trace.queuedMs)
    headers['x-llamero-reason'] = trace.reason
    if (adjusted.length > 0) headers['x-llamero-adjusted'] = adjusted.join(', ')
    return headers
  }
}

/** Whether the time to the head of the answer depends on the prompt alone. */
function beginsEarly({ ask }: Admission): boolean {
  return ask.streams || /embed/.test(ask.api)
}
