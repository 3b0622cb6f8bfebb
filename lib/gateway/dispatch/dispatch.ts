import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Grant } from '../../scheduler/queue/grant.ts'
import { holdersText } from '../../scheduler/queue/holders.ts'
import type { Scheduler } from '../../scheduler/scheduler.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { AdmittedRequest } from '../admission/admit.ts'
import { until } from '../admission/wait-until-probed.ts'
import { canRepeat } from '../body/streaming-body.ts'
import type { Exchange } from '../http/exchange.ts'
import type { UpstreamFailure } from '../response/outcome.ts'
import { CapabilityCheck } from './capability-check.ts'
import { embeddingFault, namingModel } from './embedding-fault.ts'
import { judgeFailure } from './failure-policy.ts'
import { failRequest, provesDown, reasonOf } from './final-failure.ts'
import { LoadFailed } from './model-loader.ts'
import { rejectionOf } from './rejection.ts'
import { RetryBudget } from './retry-budget.ts'
import { type ActiveRequest, UpstreamAttempts, type UpstreamAttemptsOptions } from './upstream-attempt.ts'

/** Milliseconds between two looks whether a node can be reached again. */
const backMs = 500

interface DispatchOptions extends Omit<UpstreamAttemptsOptions, 'mayLeave' | 'mayReturn'> {
  readonly scheduler: Scheduler
  /** Whether what is known of the nodes may be from before this instance started. */
  readonly isStarting: () => boolean
  readonly log: Log
}

/** The part of a request's path that may repeat: wait for a slot, try the node, and on its failure try another. */
export class Dispatch {
  readonly #options: DispatchOptions
  readonly #budget: RetryBudget
  readonly #tries: UpstreamAttempts
  readonly #capabilities: CapabilityCheck
  /** Requests that went elsewhere because another node could do what one refused. */
  readonly #contradicted = new WeakSet<Exchange>()

  constructor(options: DispatchOptions) {
    this.#options = options
    this.#budget = new RetryBudget(options.clock)
    this.#capabilities = new CapabilityCheck(options.clock, options.log)
    this.#tries = new UpstreamAttempts({
      ...options,
      // The attempt under way counts, unless the node may never have had it.
      mayLeave: (request, reason) =>
        this.#mayRepeat(request, request.ask, request.course.asked + (reason === 'lost' ? 0 : 1)),
      mayReturn: (request, node) => {
        const tried = new Set(request.tried)
        tried.delete(node)
        return this.#mayRepeat(request, { ...request.ask, tried }, request.course.asked)
      },
    })
  }

  /**
   * Resolves when the caller has the answer, or the node's own refusal when no other node can do better.
   *
   * @throws ProxyError when every try failed; the reason of the exchange's signal when that ended it.
   */
  async run(exchange: Exchange, admission: AdmittedRequest, snapshot: Snapshot): Promise<void> {
    const tried = new Set(admission.ask.tried)
    const ask = { ...admission.ask, tried }
    const course = { asked: 0, hasMoved: false, left: null, lostAt: null }
    const request: ActiveRequest = { exchange, admission, snapshot, ask, tried, course }
    exchange.trace.model = ask.model
    exchange.trace.class = ask.class
    this.#budget.earn()
    const { scheduler, isStarting, clock, upstreams } = this.#options
    // A node that was down then may be up, and is about to be looked at.
    if (isStarting()) await until(() => !isStarting() || scheduler.couldServe(ask), clock, exchange.signal)
    let failure: UpstreamFailure | null = null
    do {
      const place = await this.#acquire(request, failure)
      if (place)
        failure =
          place instanceof LoadFailed ? this.#noteLoad(request, place) : await this.#tries.run(request, place)
      else if (!(await this.#waitsOn(request))) break
      if (!failure) return
    } while (await this.#mayRetry(request, failure))
    if (!failure) return
    if (provesDown(failure, snapshot.nodes.get(exchange.trace.node))) {
      const holders = holdersText(ask, snapshot, upstreams)
      throw new ProxyError('all_nodes_down', { model: ask.model, holders }, { cause: failure.cause })
    }
    const retryAfterS = scheduler.loadRetryS(ask)
    const instead = embeddingFault(failure, ask, retryAfterS)
    if (instead) throw instead
    failRequest(exchange, namingModel(failure, ask), retryAfterS)
  }

  /**
   * A grant, or the failure of the load that it waited for; null when a node has failed already and no other is left: then
   * that node's failure is the answer.
   */
  async #acquire(
    { exchange, ask }: ActiveRequest,
    failure: UpstreamFailure | null,
  ): Promise<Grant | LoadFailed | null> {
    const { scheduler, metrics, clock } = this.#options
    const since = clock.now()
    try {
      const grant = await scheduler.acquire(ask, exchange.signal)
      if (failure) metrics.retries.inc({ reason: reasonOf(failure) })
      const { queuedMs } = grant
      metrics.later(() =>
        metrics.queueSeconds.observe({ class: ask.class, outcome: 'granted' }, queuedMs / 1000),
      )
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

  async #mayRetry(request: ActiveRequest, failure: UpstreamFailure): Promise<boolean> {
    const { exchange, ask, course } = request
    if (!this.#isOpen(request, course.asked)) return false
    if (!judgeFailure(failure, ask).elsewhere && !this.#isContradicted(request, failure)) return false
    await this.#untilOneIsBack(request)
    return this.#options.scheduler.couldServe(ask) && (await this.#budget.wait(exchange.signal))
  }

  /** Whether another node can do what this one says its model cannot: asked for once, and not of those that cannot either. */
  #isContradicted({ exchange, snapshot, ask, tried }: ActiveRequest, failure: UpstreamFailure): boolean {
    if (this.#contradicted.has(exchange)) return false
    const { node } = exchange.trace
    const contradiction = this.#capabilities.contradict({ failure, node, ask }, snapshot)
    if (!contradiction) return false
    const { upstreams, doubt } = this.#options
    const view = snapshot.nodes.get(node)
    if (view && contradiction.isUseless) {
      upstreams.of(view).bar(ask.model)
      doubt(node)
    }
    this.#contradicted.add(exchange)
    for (const other of contradiction.incapable) tried.add(other)
    return true
  }

  /** Whether an attempt under way may be given up for another one. */
  #mayRepeat(request: ActiveRequest, ask: RequestSpec, asked: number): boolean {
    const { scheduler } = this.#options
    return this.#isOpen(request, asked) && scheduler.couldServe(ask) && this.#budget.allows()
  }

  /** Whether there is still time, and bytes, for another attempt after so many. */
  #isOpen({ exchange, admission, snapshot }: ActiveRequest, asked: number): boolean {
    const { routing, timeouts } = snapshot.config
    const isLate = this.#options.clock.now() >= exchange.startedAt + timeouts.request
    return asked < routing.attempts && !isLate && canRepeat(admission.body)
  }

  /** Whether a request for which there was no place after all waits for another one: its nodes may have been lost again. */
  async #waitsOn(request: ActiveRequest): Promise<boolean> {
    const { clock } = this.#options
    if (clock.now() >= lostUntil(request)) return false
    await clock.sleep(backMs, request.exchange.signal)
    return true
  }

  /** A request that a node had is not refused because of an outage of all ways: it waits as long as for a slot. */
  async #untilOneIsBack(request: ActiveRequest): Promise<void> {
    const { scheduler, clock } = this.#options
    const endsAt = lostUntil(request)
    while (clock.now() < endsAt && !scheduler.couldServe(request.ask))
      await clock.sleep(backMs, request.exchange.signal)
  }

  /** A node had the request wait for a load that failed. What that says of the node was told once, by the loader. */
  #noteLoad(
    { exchange: { trace }, tried, course }: ActiveRequest,
    { node, failure }: LoadFailed,
  ): UpstreamFailure {
    tried.add(node)
    course.asked++
    trace.node = node
    trace.reason = 'cold-load'
    trace.attempts++
    return failure
  }
}

/** How long a request may wait for a node that can be reached, after its own was lost, in monotonic milliseconds. */
function lostUntil({ course: { lostAt }, snapshot }: ActiveRequest): number {
  return lostAt === null ? Number.NEGATIVE_INFINITY : lostAt + snapshot.config.queue.max_wait
}
