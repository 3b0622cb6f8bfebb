import type { IncomingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import type { LeaveReason } from '../availability/upstream.ts'
import type { UpstreamPool } from '../availability/upstream-pool.ts'
import type { RequestBody } from '../body/streaming-body.ts'
import { requestHeaders } from '../http/request-headers.ts'
import { HeldDelivery } from '../response/held-delivery.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import type { Forwarder } from './forwarder.ts'
import { upTo } from './upstream-request.ts'

interface NodeApiOptions {
  readonly upstreams: UpstreamPool
  readonly forwarder: Forwarder
  readonly clock: Clock
}

/** What a node is asked, and how long it may take: milliseconds. */
interface Question {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly path: string
  /** Who asks, as the node logs it. */
  readonly requestId: string
  readonly headers?: IncomingHttpHeaders
  readonly body?: RequestBody
  /** See Order. */
  readonly asksFirst?: boolean
  readonly timeouts: Config['timeouts']
  /** Until its answer begins. */
  readonly silentMs: number
  /** Until all is over; as for any request when it is absent. */
  readonly wholeMs?: number
  /** Why it is not waited for any longer. A bad answer to another request is no reason, unless this says so. */
  readonly mayLeave?: (reason: LeaveReason) => boolean
  readonly signal?: AbortSignal
  /** Of an answer that is kept; those of a usual answer when it is absent. */
  readonly maxAnswerBytes?: number
}

const never = new AbortController().signal
const empty = Buffer.alloc(0)

/** Requests to a node's own API whose answers are for us: whole in memory, or a failure. */
export class NodeClient {
  readonly #options: NodeApiOptions

  constructor(options: NodeApiOptions) {
    this.#options = options
  }

  ask(node: NodeView, question: Question): Promise<UpstreamOutcome> {
    const { upstreams, forwarder, clock } = this.#options
    const { method, path, requestId, headers = {}, body = empty, timeouts, silentMs } = question
    const {
      wholeMs = timeouts.request,
      mayLeave = (reason) => reason !== 'failing',
      signal = never,
      maxAnswerBytes,
      asksFirst = false,
    } = question
    const upstream = upstreams.of(node)
    return forwarder.send({
      upstream,
      method,
      path,
      headers: requestHeaders({
        caller: headers,
        node: node.spec.headers,
        host: upstream.target.host,
        bodyBytes: body.length,
        requestId,
        via: upstream.via,
      }),
      body,
      asksFirst,
      timeouts,
      patience: upTo(silentMs, mayLeave),
      pulse: null, // its answer says nothing of how it serves a model
      deadlineAt: clock.now() + wholeMs,
      signal,
      resent: () => {},
      receive: (head) => new HeldDelivery(head, maxAnswerBytes),
    })
  }
}
