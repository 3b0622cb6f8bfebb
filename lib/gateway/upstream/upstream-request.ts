import type { OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import type { Pulse } from '../availability/silence.ts'
import type { LeaveReason, Upstream } from '../availability/upstream.ts'
import type { RequestBody } from '../body/streaming-body.ts'
import type { UpstreamFault } from '../response/outcome.ts'
import type { Delivery, ResponseHead } from '../response/response-writer.ts'

/** The time to the head of a response, in milliseconds from when the whole request was sent. */
export interface ResponseDeadline {
  readonly atMostMs: number
  /** The fault of an attempt that failed over because it took longer than expected. */
  readonly overdueFault: UpstreamFault
  /** The longest time that is expected, as far as is known now. */
  expectedMs(): number
  /** The node is silent for longer than expected. Called once. */
  overdue(sentAt: number): void
  /** Whether the request may go to another node now. */
  canFailOver(reason: LeaveReason): boolean
  /** Whether the request may be sent again now, also to this node, which was lost or frozen and is back. */
  canResend(was: 'lost' | 'frozen'): boolean
}

/** A deadline after a fixed time. `canFailOver` says for which reasons the request ends earlier. */
export function upTo(
  atMostMs: number,
  canFailOver: (reason: LeaveReason) => boolean = () => false,
): ResponseDeadline {
  const overdueFault = 'first-token-timeout'
  return {
    atMostMs,
    overdueFault,
    expectedMs: () => atMostMs,
    overdue: () => {},
    canFailOver,
    canResend: () => false,
  }
}

/** When an attempt must end or its silence be checked, in monotonic milliseconds, and the fault. */
export interface Limit {
  readonly at: number
  readonly fault: UpstreamFault | 'check-silence'
}

/** A request to one node. */
export interface UpstreamRequest {
  readonly upstream: Upstream
  readonly method: string
  readonly path: string
  /** Built from an allow-list (see requestHeaders). */
  readonly headers: OutgoingHttpHeaders
  readonly body: RequestBody
  /** Send the body only after "100 Continue", or after a second without a response. */
  readonly expectsContinue?: boolean
  readonly timeouts: Config['timeouts']
  readonly responseDeadline: ResponseDeadline
  /** Notes the time of each received piece; null when the response says nothing about a model. */
  readonly pulse: Pulse | null
  /** When the whole request must be over, in monotonic milliseconds. */
  readonly deadlineAt: number
  readonly signal: AbortSignal
  /** The request is sent once more, because a kept-alive socket turned out to be closed. */
  readonly onResend: () => void
  /** Called once with the head of the response. Returns the delivery of its body. */
  readonly receive: (head: ResponseHead) => Delivery
}
