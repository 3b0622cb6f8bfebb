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

/** A request to a node, and its limits in milliseconds. */
interface NodeClientRequest {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly path: string
  /** The request id that the node logs. */
  readonly requestId: string
  readonly headers?: IncomingHttpHeaders
  readonly body?: RequestBody
  /** See UpstreamRequest. */
  readonly expectsContinue?: boolean
  readonly timeouts: Config['timeouts']
  /** Until the response begins. */
  readonly silentMs: number
  /** Until the response ends; `timeouts.request` when absent. */
  readonly wholeMs?: number
  /** Whether to give up for a reason. Bad responses to other requests are none, unless this says so. */
  readonly canFailOver?: (reason: LeaveReason) => boolean
  readonly signal?: AbortSignal
  /** The largest response that is kept; the usual limit when absent. */
  readonly maxResponseBytes?: number
}

const never = new AbortController().signal
const empty = Buffer.alloc(0)

/** Requests of llamero itself to a node's API. The response is read whole. */
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
      maxResponseBytes,
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
      pulse: null, // its response says nothing about the models
      deadlineAt: clock.now() + wholeMs,
      signal,
      onResend: () => {},
      receive: (head) => new HeldDelivery(head, maxResponseBytes),
    })
  }
}
