import type { OutgoingHttpHeaders } from 'node:http'
import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Grant } from '../../scheduler/queue/grant.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { AdmittedRequest } from '../admission/admit.ts'
import type { HalfOpenPermit } from '../availability/circuit-breaker.ts'
import type { Expected, Timed } from '../availability/expected-times.ts'
import type { LeaveReason, Upstream } from '../availability/upstream.ts'
import type { UpstreamPool } from '../availability/upstream-pool.ts'
import { ClientGone, type Exchange } from '../http/exchange.ts'
import { requestHeaders } from '../http/request-headers.ts'
import { deliver } from '../response/deliver.ts'
import type { UpstreamFailure, UpstreamFault, UpstreamOutcome } from '../response/outcome.ts'
import type { Forwarder } from '../upstream/forwarder.ts'
import type { ResponseDeadline, UpstreamRequest } from '../upstream/upstream-request.ts'
import { recordOutcome } from './record-outcome.ts'

export interface UpstreamAttemptsOptions {
  readonly upstreams: UpstreamPool
  readonly forwarder: Forwarder
  readonly clock: Clock
  readonly metrics: Metrics
  /** The name of this instance. */
  readonly instance: string
  /** Asks for a probe of a node that differs from the snapshot: it is unreachable, or lacks a model. */
  readonly requestProbe: (node: string) => void
  /** Whether a request with a silent node may go to another node now. */
  readonly canFailOver: (request: ActiveRequest, reason: LeaveReason) => boolean
  /** Whether a request may be sent again now, also to the same node. */
  readonly canResend: (request: ActiveRequest, node: string) => boolean
}

/** A request during dispatch: what all its attempts share. */
export interface ActiveRequest {
  readonly exchange: Exchange
  readonly admitted: AdmittedRequest
  readonly snapshot: Snapshot
  readonly spec: RequestSpec
  /** Nodes that have failed the request. */
  readonly tried: Set<string>
  readonly history: AttemptHistory
}

/** The attempts of a request so far. */
export interface AttemptHistory {
  /** Attempts in which the node received the request. An unreachable node costs only the time of a connect. */
  count: number
  /** It failed over from a slow node. */
  hasFailedOver: boolean
  /**
   * The slow node, when the request was sent there, and how long it was given, where the response was to come whole.
   */
  slowNode: { readonly node: string; readonly sentAt: number; readonly givenMs: number } | null
  /** It was sent again because its connection to a node that is back may be dead. */
  hasBeenResent: boolean
  /** When its node was first lost, in monotonic milliseconds: the request then waits until a node is reachable. */
  lostAt: number | null
}

/** One attempt: its node and its permit of the breaker. */
interface Attempt {
  readonly grant: Grant
  readonly upstream: Upstream
  readonly permit: HalfOpenPermit
  /** Monotonic milliseconds. */
  readonly sentAt: number
}

/** Sends a request to one node and records what the outcome says about the node. */
export class UpstreamAttempts {
  readonly #options: UpstreamAttemptsOptions

  constructor(options: UpstreamAttemptsOptions) {
    this.#options = options
  }

  /** Sends a request to the node of its grant. Resolves to null when the caller has the response. */
  async run(request: ActiveRequest, grant: Grant): Promise<UpstreamFailure | null> {
    const { upstreams, forwarder } = this.#options
    let permit: HalfOpenPermit | null = null
    try {
      request.tried.add(grant.node.name)
      const upstream = upstreams.of(grant.node)
      permit = upstream.breaker.begin(() => this.#expected(request, grant, upstream).usualMs)
      this.#recordGrant(request, grant)
      const attempt = { grant, upstream, permit, sentAt: this.#options.clock.now() }
      return this.#conclude(request, attempt, await forwarder.send(this.#upstreamRequest(request, attempt)))
    } finally {
      // Settles what is not settled yet. By hand: V8 leaves `using` to its slow path (Node 24).
      permit?.settle('neutral')
      grant[Symbol.dispose]()
    }
  }

  #upstreamRequest(request: ActiveRequest, attempt: Attempt): UpstreamRequest {
    const { grant, upstream, permit, sentAt } = attempt
    const { exchange, admitted, snapshot } = request
    const { clock, metrics } = this.#options
    const { node } = grant
    const { timeouts } = snapshot.config
    return {
      upstream,
      method: 'POST',
      path: exchange.path,
      headers: requestHeaders({
        caller: exchange.request.headers,
        node: node.spec.headers,
        host: upstream.target.host,
        bodyBytes: admitted.body.length,
        requestId: exchange.id,
        via: upstream.via,
      }),
      body: admitted.body,
      timeouts,
      responseDeadline: this.#responseDeadline(request, grant, upstream),
      pulse: upstream.silence(request.spec.model),
      deadlineAt: exchange.startedAt + timeouts.request,
      signal: exchange.signal,
      onResend: () => metrics.attempts.inc({ node: node.name, result: 'stale-socket' }),
      receive: (head) => {
        exchange.trace.contentType = head.contentType
        exchange.trace.firstByteMs = clock.now() - exchange.startedAt
        // The breaker counts a success at the head: a good stream may go on for an hour.
        if (head.status < 400) {
          permit.settle('good')
          if (answersEarly(admitted)) grant.begun()
          if (answersEarly(admitted)) this.#observe(request, attempt)
          this.#options.upstreams.answered(node.name, request.spec.model)
        }
        const delivery = deliver(head, {
          api: request.spec.api,
          response: exchange.response,
          idleWriteMs: timeouts.idle_write,
          rename: admitted.rename,
          responseHeaders: this.#responseHeaders(exchange, admitted, snapshot),
          elapsedS: () => (clock.now() - sentAt) / 1000,
          malformed: (lines) => metrics.malformedLines.inc({ node: node.name }, lines),
        })
        grant.watch(() => delivery.tokens.output)
        return delivery
      },
    }
  }

  /** The model is loaded by now, so the time to the head depends on the prompt and on the work of the node. */
  #responseDeadline(request: ActiveRequest, grant: Grant, upstream: Upstream): ResponseDeadline {
    const { admitted, snapshot, spec, history } = request
    const { first_token, whole_answer } = snapshot.config.timeouts
    const { upstreams, canFailOver, canResend } = this.#options
    const node = grant.node.name
    const isWhole = !answersEarly(admitted)
    return {
      atMostMs: isWhole ? whole_answer : first_token,
      overdueFault: isWhole ? 'answer-timeout' : 'first-token-timeout',
      expectedMs: () => this.#expected(request, grant, upstream).ms,
      overdue: (sentAt) => {
        // An unstreamed response may be long: see #observeWhole.
        if (!isWhole) upstreams.overdue(node, spec.model, sentAt)
      },
      canFailOver: (reason) => {
        const isKnownHere = !isWhole && this.#expected(request, grant, upstream).known === 'here'
        // A slow model is slow on every node: starting again and again would not help.
        if (reason === 'slow' && history.hasFailedOver && !isKnownHere) return false
        return canFailOver(request, reason)
      },
      // The node may be working on the request, so this is done once.
      canResend: (was) => !(was === 'frozen' && history.hasBeenResent) && canResend(request, node),
    }
  }

  #expected({ admitted, spec }: ActiveRequest, { node }: Grant, upstream: Upstream): Expected {
    const { upstreams, clock } = this.#options
    const own = admitted.body.length ?? 0
    const timed: Timed = answersEarly(admitted) ? 'first-token' : 'whole'
    const sent = {
      node: node.name,
      model: spec.model,
      timed,
      bodyBytes: Math.max(own, upstream.waitingBytes),
    }
    const isResident = upstreams.hasInMemory(node.name, spec.model)
    return upstreams.expected.of(sent, isResident, clock.now())
  }

  /**
   * A request left a slow node and was answered here. If the answer took no longer than the time that the slow node had
   * been given, the answer is not a long one: then the slow node was overdue, and that is recorded.
   */
  #observeWhole(request: ActiveRequest, attempt: Attempt): void {
    const { slowNode } = request.history
    const { upstreams, clock } = this.#options
    if (slowNode && clock.now() - attempt.sentAt <= slowNode.givenMs)
      upstreams.overdue(slowNode.node, request.spec.model, slowNode.sentAt)
    this.#observe(request, attempt)
  }

  /** Records the time to the response, unless an outage of the node delayed it. */
  #observe({ admitted, spec }: ActiveRequest, { grant, upstream, sentAt }: Attempt): void {
    if (upstream.wasTroubledSince(sentAt)) return
    const { upstreams, clock } = this.#options
    const own = admitted.body.length ?? 0
    const timed: Timed = answersEarly(admitted) ? 'first-token' : 'whole'
    // As in #expected, so that waiting requests lengthen the expected time only when there are more of them than
    // before.
    const bodyBytes = timed === 'whole' ? own + upstream.waitingBytes : own
    const sent = { node: grant.node.name, model: spec.model, timed, bodyBytes }
    upstreams.expected.observe(sent, clock.now() - sentAt, clock.now())
  }

  /** Records the outcome in the breaker, the grant, the metrics and the trace. */
  #conclude(request: ActiveRequest, attempt: Attempt, outcome: UpstreamOutcome): UpstreamFailure | null {
    const { grant, upstream, permit, sentAt } = attempt
    const { exchange, spec, admitted } = request
    const { requestProbe, metrics } = this.#options
    const node = grant.node.name
    const assessment = recordOutcome(outcome, spec, { node, upstream, permit, requestProbe })
    if (assessment.effect === 'busy') grant.busy()
    if (outcome.kind === 'done') grant.end(outcome.timings, outcome.tokens.output)
    else if (outcome.kind !== 'client-gone') grant.failed()
    const result = outcome.kind === 'node-failed' ? outcome.fault : outcome.kind
    metrics.later(() => metrics.attempts.inc({ node, result }))
    if (outcome.kind === 'client-gone') throw exchange.signal.reason ?? new ClientGone(outcome.reason)
    if (outcome.kind !== 'done') {
      recordFailure(request, { node, sentAt, givenMs: this.#options.clock.now() - sentAt }, outcome)
      if (outcome.kind === 'node-failed') exchange.trace.tokens = outcome.tokens
      return outcome
    }
    exchange.trace.tokens = outcome.tokens
    if (!answersEarly(admitted)) this.#observeWhole(request, attempt)
    exchange.trace.outcome = 'ok'
    return null
  }

  #recordGrant({ exchange: { trace }, admitted }: ActiveRequest, { node, reason, queuedMs }: Grant): void {
    trace.node = node.name
    const { metrics } = this.#options
    const reasonLabel = admitted.isFallback ? 'fallback' : reason
    trace.reason = reasonLabel
    trace.attempts++
    trace.queuedMs += queuedMs
    metrics.later(() => metrics.decisions.inc({ reason: reasonLabel }))
  }

  #responseHeaders(
    { publicId, trace }: Exchange,
    { adjusted }: AdmittedRequest,
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

/** Faults by which a node never had the request, or is lost with it: it may have it again once it can be reached. */
const notDelivered: ReadonlySet<UpstreamFault> = new Set([
  'unreachable',
  'connect-timeout',
  'node-down',
  'connection-lost',
  'frozen',
])

/** Faults after which a request waits for a node that can be reached. */
const isLost: ReadonlySet<UpstreamFault> = new Set(['node-down', 'connection-lost', 'frozen'])

function recordFailure(
  request: ActiveRequest,
  attempt: NonNullable<AttemptHistory['slowNode']>,
  failure: UpstreamFailure,
): void {
  const { history } = request
  const fault = failure.kind === 'node-failed' ? failure.fault : null
  if (fault === 'answer-timeout') history.slowNode = attempt
  if (fault === 'connection-lost') history.hasBeenResent = true
  if (fault?.endsWith('-timeout') && fault !== 'connect-timeout') history.hasFailedOver = true
  countFailure(request, attempt.node, failure, attempt.sentAt + attempt.givenMs)
}

/** Counts a failed attempt, or the failed load that a request waited for, unless the node could not be reached. */
export function countFailure(
  { tried, history }: ActiveRequest,
  node: string,
  failure: UpstreamFailure,
  now: number,
): void {
  const fault = failure.kind === 'node-failed' ? failure.fault : null
  if (fault !== null && isLost.has(fault)) history.lostAt ??= now
  if (fault !== null && notDelivered.has(fault)) tried.delete(node)
  else history.count++
}

/** Whether the time to the head of the response depends on the prompt alone. */
function answersEarly({ spec }: AdmittedRequest): boolean {
  return spec.streams || embeds(spec.api)
}
