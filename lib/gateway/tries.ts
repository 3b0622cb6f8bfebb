import type { OutgoingHttpHeaders } from 'node:http'
import { type Ask, embeds } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Grant } from '../scheduler/grant.ts'
import type { Clock } from '../shared/clock.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Admission } from './admit.ts'
import type { Trial } from './breaker.ts'
import { deliver } from './delivery.ts'
import { ClientGone, type Exchange } from './exchange.ts'
import type { Forwarder } from './forward.ts'
import { type Order, type Patience, requestHeaders } from './order.ts'
import type { Failure, Outcome } from './outcome.ts'
import { teach } from './teach.ts'
import type { Upstream, Upstreams } from './upstreams.ts'

export interface TriesOptions {
  readonly upstreams: Upstreams
  readonly forwarder: Forwarder
  readonly clock: Clock
  readonly metrics: Metrics
  /** Name of this instance. */
  readonly instance: string
  /** A node is not what the snapshot says: it cannot be reached, or lacks a model. */
  readonly doubt: (node: string) => void
  /** Whether a request whose node is silent for too long may be sent elsewhere. */
  readonly mayLeave: (request: Dispatched) => boolean
}

/** A request while it is being dispatched: what does not change from one try to the next. */
export interface Dispatched {
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

/** One request, one node: sent, answered, and what that teaches of the node. */
export class Tries {
  readonly #options: TriesOptions

  constructor(options: TriesOptions) {
    this.#options = options
  }

  /** Sends a request to the node of its grant. Resolves to null when the caller has the answer. */
  async run(request: Dispatched, grant: Grant): Promise<Failure | null> {
    const { upstreams, forwarder } = this.#options
    let trial: Trial | null = null
    try {
      request.tried.add(grant.node.name)
      const upstream = upstreams.of(grant.node)
      trial = upstream.breaker.begin()
      this.#note(request, grant)
      const attempt = { grant, upstream, trial }
      return this.#conclude(request, attempt, await forwarder.send(this.#order(request, attempt)))
    } finally {
      // However it ended; what was told already stands. By hand: V8 leaves `using` to its slow path (Node 24).
      trial?.settle('neutral')
      grant[Symbol.dispose]()
    }
  }

  #order(request: Dispatched, { grant, upstream, trial }: Try): Order {
    const { exchange, admission, snapshot } = request
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
      patience: this.#patience(request, upstream),
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
          this.#learn(request, upstream, clock.now() - sentAt)
        }
        const delivery = deliver(head, {
          api: request.ask.api,
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
  #patience(request: Dispatched, upstream: Upstream): Patience {
    const { admission, snapshot } = request
    const { first_token: atMostMs, whole_answer: wholeMs } = snapshot.config.timeouts
    const mayLeave = () => this.#options.mayLeave(request)
    if (!beginsEarly(admission)) return { expectedMs: wholeMs, atMostMs: wholeMs, mayLeave }
    return { expectedMs: Math.min(this.#limitMs(request, upstream), atMostMs), atMostMs, mayLeave }
  }

  #limitMs({ admission, ask }: Dispatched, { firstTokens }: Upstream): number {
    return firstTokens.limitMs(ask.model, admission.body.length ?? 0)
  }

  #learn({ admission, ask }: Dispatched, { firstTokens }: Upstream, tookMs: number): void {
    if (beginsEarly(admission)) firstTokens.observe(ask.model, admission.body.length ?? 0, tookMs)
  }

  /** What the outcome says of the node goes to its breaker, and the outcome to the metrics. */
  #conclude(request: Dispatched, { grant, upstream, trial }: Try, outcome: Outcome): Failure | null {
    const { exchange, ask } = request
    const { doubt, metrics } = this.#options
    const node = grant.node.name
    const verdict = teach(outcome, ask, { node, upstream, trial, doubt })
    if (verdict.effect === 'busy') grant.busy()
    if (outcome.kind === 'done') grant.end(outcome.timings, outcome.tokens.output)
    else if (outcome.kind !== 'client-gone') grant.failed()
    const result = outcome.kind === 'node-failed' ? outcome.fault : outcome.kind
    metrics.later(() => metrics.attempts.inc({ node, result }))
    if (outcome.kind === 'client-gone') throw exchange.signal.reason ?? new ClientGone(outcome.reason)
    if (outcome.kind === 'refused') return outcome
    exchange.trace.tokens = outcome.tokens
    if (outcome.kind === 'node-failed') {
      if (outcome.fault === 'first-token-timeout')
        this.#learn(request, upstream, this.#limitMs(request, upstream))
      return outcome
    }
    exchange.trace.outcome = 'ok'
    return null
  }

  #note({ exchange: { trace }, admission }: Dispatched, { node, reason, queuedMs }: Grant): void {
    trace.node = node.name
    const { metrics } = this.#options
    const told = admission.isFallback ? 'fallback' : reason
    trace.reason = told
    trace.attempts++
    trace.queuedMs += queuedMs
    metrics.later(() => metrics.decisions.inc({ reason: told }))
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
  return ask.streams || embeds(ask.api)
}
