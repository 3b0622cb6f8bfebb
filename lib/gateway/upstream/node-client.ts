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

interface NodeClientOptions {
  readonly upstreams: UpstreamPool
  readonly forwarder: Forwarder
  readonly clock: Clock
}

/** What a node is asked, and how long it may take: milliseconds. */
interface NodeClientRequest {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly path: string
  /** Who asks, as the node logs it. */
  readonly requestId: string
  readonly headers?: IncomingHttpHeaders
  readonly body?: RequestBody
  /** See Order. */
  readonly expectsContinue?: boolean
  readonly timeouts: Config['timeouts']
  /** Until its answer begins. */
  readonly silentMs: number
  /** Until all is over; as for any request when it is absent. */
  readonly wholeMs?: number
  /** Why it is not waited for any longer. A bad answer to another request is no reason, unless this says so. */
  readonly canFailOver?: (reason: LeaveReason) => boolean
  readonly signal?: AbortSignal
  /** Of an answer that is kept; those of a usual answer when it is absent. */
  readonly maxAnswerBytes?: number
}

const never = new AbortController().signal
const empty = Buffer.alloc(0)

/** Requests to a node's own API whose answers are for us: whole in memory, or a failure. */
export class NodeClient {
  readonly #options: NodeClientOptions

  constructor(options: NodeClientOptions) {
    this.#options = options
  }

  send(node: NodeView, request: NodeClientRequest): Promise<UpstreamOutcome> {
    const { upstreams, forwarder, clock } = this.#options
    const { method, path, requestId, headers = {}, body = empty, timeouts, silentMs } = request
    const {
      wholeMs = timeouts.request,
      canFailOver = (reason) => reason !== 'failing',
      signal = never,
      maxAnswerBytes,
      expectsContinue = false,
    } = request
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
      expectsContinue,
      timeouts,
      responseDeadline: upTo(silentMs, canFailOver),
      pulse: null, // its answer says nothing of how it serves a model
      deadlineAt: clock.now() + wholeMs,
      signal,
      onResend: () => {},
      receive: (head) => new HeldDelivery(head, maxAnswerBytes),
    })
  }
}
