import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Grant } from '../../scheduler/queue/grant.ts'
import { unavailableNodesText } from '../../scheduler/queue/unavailable-nodes.ts'
import type { Scheduler } from '../../scheduler/scheduler.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { AdmittedRequest } from '../admission/admit.ts'
import { until } from '../admission/wait-until-probed.ts'
import { canRepeat } from '../body/streaming-body.ts'
import type { Exchange } from '../http/exchange.ts'
import type { UpstreamFailure, UpstreamFault } from '../response/outcome.ts'
import { CapabilityCheck } from './capability-check.ts'
import { embeddingFault, namingModel } from './embedding-fault.ts'
import { assessFailure } from './failure-policy.ts'
import { failRequest, failureLine, provesDown, reasonOf } from './final-failure.ts'
import { LoadFailed } from './model-loader.ts'
import { rejectionOf } from './rejection.ts'
import { RetryBudget } from './retry-budget.ts'
import {
  type ActiveRequest,
  countFailure,
  UpstreamAttempts,
  type UpstreamAttemptsOptions,
} from './upstream-attempt.ts'

/** Milliseconds between two checks whether a node is reachable again. */
const pollMs = 500

/** Faults of attempts that were given up because another node would do better. */
const takenFor: ReadonlySet<UpstreamFault> = new Set(['answer-timeout', 'first-token-timeout', 'ejected'])

interface DispatchOptions extends Omit<UpstreamAttemptsOptions, 'canFailOver' | 'canResend'> {
  readonly scheduler: Scheduler
  /** The instance has just started, and what it knows about nodes may be old. */
  readonly isStarting: () => boolean
  readonly log: Log
}

/** Dispatches admitted requests: acquire a slot, send to the node, and on failure try another node. */
export class Dispatch {
  readonly #options: DispatchOptions
  readonly #budget: RetryBudget
  readonly #attempts: UpstreamAttempts
  readonly #capabilities: CapabilityCheck
  /** Exchanges that failed over because another node could do what one refused. */
  readonly #contradicted = new WeakSet<Exchange>()

  constructor(options: DispatchOptions) {
    this.#options = options
    this.#budget = new RetryBudget(options.clock)
    this.#capabilities = new CapabilityCheck(options.clock, options.log)
    this.#attempts = new UpstreamAttempts({
      ...options,
      // The attempt in progress counts, unless its node may not have received the request.
      canFailOver: (request, reason) => {
        const isCounted = reason !== 'lost' && reason !== 'frozen'
        const spec = reason === 'lost' ? request.spec : this.#withoutDoubt(request.spec)
        return this.#canRepeat(request, spec, request.history.count + (isCounted ? 1 : 0))
      },
      canResend: (request, node) => {
        const tried = new Set(request.tried)
        tried.delete(node)
        return this.#canRepeat(request, { ...request.spec, tried }, request.history.count)
      },
    })
  }

  /**
   * Resolves when the caller has the response, or the node's own refusal when no other node can do better.
   *
   * @throws ProxyError when every attempt failed; the reason of the exchange's signal when that ended it.
   */
  async run(exchange: Exchange, admitted: AdmittedRequest, snapshot: Snapshot): Promise<void> {
    const tried = new Set(admitted.spec.tried)
    const spec = { ...admitted.spec, tried }
    const history = { count: 0, hasFailedOver: false, hasBeenResent: false, slowNode: null, lostAt: null }
    const request: ActiveRequest = { exchange, admitted, snapshot, spec, tried, history }
    exchange.trace.model = spec.model
    exchange.trace.class = spec.class
    this.#budget.recordRequest()
    const { scheduler, isStarting, clock, upstreams } = this.#options
    // A node that was down before the start may be up, and is probed soon.
    if (isStarting()) await until(() => !isStarting() || scheduler.couldServe(spec), clock, exchange.signal)
    let failure: UpstreamFailure | null = null
    do {
      const granted = await this.#acquire(request, failure)
      if (granted)
        failure =
          granted instanceof LoadFailed
            ? this.#recordLoadFailure(request, granted)
            : await this.#attempts.run(request, granted)
      else if (!(await this.#waitsForNode(request, failure))) break
      if (!failure) return
    } while (await this.#retries(request, failure))
    if (!failure) return
    if (provesDown(failure, snapshot.nodes.get(exchange.trace.node))) {
      const unavailable = unavailableNodesText(spec, snapshot, upstreams)
      throw new ProxyError('all_nodes_down', { model: spec.model, unavailable }, { cause: failure.cause })
    }
    const retryAfterS = scheduler.loadRetryS(spec)
    const instead = embeddingFault(failure, spec, retryAfterS)
    if (instead) throw instead
    failRequest(exchange, namingModel(failure, spec), retryAfterS)
  }

  /**
   * A grant, or the failure of the load that it waited for. Null when an earlier attempt failed and no other node is
   * left: the failure of that attempt is then the response.
   */
  async #acquire(
    request: ActiveRequest,
    failure: UpstreamFailure | null,
  ): Promise<Grant | LoadFailed | null> {
    const { scheduler, metrics, clock } = this.#options
    const { exchange } = request
    const spec = failure ? this.#spareDoubt(request.spec) : request.spec
    const since = clock.now()
    try {
      const grant = await scheduler.acquire(spec, exchange.signal)
      if (failure) metrics.retries.inc({ reason: reasonOf(failure) })
      const { queuedMs } = grant
      metrics.later(() =>
        metrics.queueSeconds.observe({ class: spec.class, outcome: 'granted' }, queuedMs / 1000),
      )
      return grant
    } catch (error) {
      const waitedS = (clock.now() - since) / 1000
      const reason = rejectionOf(error)
      metrics.queueSeconds.observe({ class: spec.class, outcome: reason ? 'refused' : 'left' }, waitedS)
      if (reason) metrics.queueRejected.inc({ class: spec.class, reason })
      if (error instanceof LoadFailed) return error
      if (failure && error instanceof ProxyError) return null
      throw error
    }
  }

  /** Whether the request is tried again; then the failure is only logged. */
  async #retries(request: ActiveRequest, failure: UpstreamFailure): Promise<boolean> {
    const { trace } = request.exchange
    const line = failureLine(trace.node, failure)
    if (!(await this.#canRetry(request, failure))) return false
    trace.failed = [...trace.failed, line]
    return true
  }

  async #canRetry(request: ActiveRequest, failure: UpstreamFailure): Promise<boolean> {
    const { exchange, spec, history } = request
    if (!this.#hasAttemptsLeft(request, history.count)) return false
    if (!assessFailure(failure, spec).elsewhere && !this.#isContradicted(request, failure)) return false
    await this.#untilNodeIsBack(request, failure)
    return this.#options.scheduler.couldServe(spec) && (await this.#budget.wait(exchange.signal))
  }

  /**
   * Whether another node can do what this node refused. Happens once per request; nodes that cannot do it either are
   * skipped.
   */
  #isContradicted({ exchange, snapshot, spec, tried }: ActiveRequest, failure: UpstreamFailure): boolean {
    if (this.#contradicted.has(exchange)) return false
    const { node } = exchange.trace
    const contradiction = this.#capabilities.contradictionOf({ failure, node, spec }, snapshot)
    if (!contradiction) return false
    const { upstreams, requestProbe } = this.#options
    const view = snapshot.nodes.get(node)
    if (view && contradiction.isUseless) {
      upstreams.of(view).blockModel(spec.model)
      requestProbe(node)
    }
    this.#contradicted.add(exchange)
    for (const other of contradiction.incapable) tried.add(other)
    return true
  }

  /** A request that failed on one node goes to those that may be frozen only if there are no others. */
  #spareDoubt(spec: RequestSpec): RequestSpec {
    const sure = this.#withoutDoubt(spec)
    return sure === spec || this.#options.scheduler.couldServe(sure) ? sure : spec
  }

  #withoutDoubt(spec: RequestSpec): RequestSpec {
    const { doubtful } = this.#options.upstreams
    return doubtful.length === 0 ? spec : { ...spec, tried: new Set([...spec.tried, ...doubtful]) }
  }

  /** Whether the attempt in progress may be given up for another one. */
  #canRepeat(request: ActiveRequest, spec: RequestSpec, attempts: number): boolean {
    const { scheduler } = this.#options
    return this.#hasAttemptsLeft(request, attempts) && scheduler.couldServe(spec) && this.#budget.allows()
  }

  /** Whether the request has attempts and time left, and its body can be sent again. */
  #hasAttemptsLeft({ exchange, admitted, snapshot }: ActiveRequest, attempts: number): boolean {
    const { routing, timeouts } = snapshot.config
    const isLate = this.#options.clock.now() >= exchange.startedAt + timeouts.request
    return attempts < routing.attempts && !isLate && canRepeat(admitted.body)
  }

  /** A request that was taken from a slow node for a better one is owed one, also if all others freeze meanwhile. */
  #noteOutage({ history }: ActiveRequest, failure: UpstreamFailure | null): void {
    const { clock, upstreams } = this.#options
    const wasTaken = failure?.kind === 'node-failed' && takenFor.has(failure.fault)
    if (wasTaken && upstreams.doubtful.length > 0) history.lostAt ??= clock.now()
  }

  /** Waits, if the request may still wait, for a node that is reachable again. False: no longer. */
  async #waitsForNode(request: ActiveRequest, failure: UpstreamFailure | null): Promise<boolean> {
    const { clock } = this.#options
    this.#noteOutage(request, failure)
    if (clock.now() >= lostUntil(request)) return false
    await clock.sleep(pollMs, request.exchange.signal)
    return true
  }

  /** When all nodes became unreachable during the request, it waits for one as long as it may wait for a slot. */
  async #untilNodeIsBack(request: ActiveRequest, failure: UpstreamFailure): Promise<void> {
    const { scheduler, clock } = this.#options
    this.#noteOutage(request, failure)
    const endsAt = lostUntil(request)
    while (clock.now() < endsAt && !scheduler.couldServe(request.spec))
      await clock.sleep(pollMs, request.exchange.signal)
  }

  /** Records that the load the request waited for has failed. The loader has recorded what that says about the node. */
  #recordLoadFailure(request: ActiveRequest, { node, failure }: LoadFailed): UpstreamFailure {
    const { trace } = request.exchange
    request.tried.add(node)
    countFailure(request, node, failure, this.#options.clock.now())
    trace.node = node
    trace.reason = 'cold-load'
    trace.attempts++
    return failure
  }
}

/** Until when a request may wait for a reachable node after its own was lost, in monotonic milliseconds. */
function lostUntil({ history: { lostAt }, snapshot }: ActiveRequest): number {
  return lostAt === null ? Number.NEGATIVE_INFINITY : lostAt + snapshot.config.queue.max_wait
}
