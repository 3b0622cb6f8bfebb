import type { OutgoingHttpHeaders } from 'node:http'
import type { Config } from '../../fleet/config.ts'
import type { Pulse } from '../availability/silence.ts'
import type { LeaveReason, Upstream } from '../availability/upstream.ts'
import type { RequestBody } from '../body/streaming-body.ts'
import type { UpstreamFault } from '../response/outcome.ts'
import type { AnswerHead, Delivery } from '../response/response-writer.ts'

/** How long a node may be silent before its answer begins, in milliseconds from when it had the whole request. */
export interface ResponseDeadline {
  readonly atMostMs: number
  /** As what a request counts that left it for taking longer than it should. */
  readonly overdueFault: UpstreamFault
  /** How long it should be at most, as far as is known by now. */
  expectedMs(): number
  /** It is silent for longer than that; told once. */
  overdue(sentAt: number): void
  /** Whether the request may be sent to another node now. */
  canFailOver(reason: LeaveReason): boolean
  /** Whether the request may be sent again now, to this node as well. */
  canResend(): boolean
}

/** Waits that long, and no longer; leaves a node that cannot be reached, where another can be asked. */
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

/** When an attempt must end or be looked at, in monotonic milliseconds, and why. */
export interface Limit {
  readonly at: number
  readonly fault: UpstreamFault | 'look'
}

/** One try at one node. */
export interface UpstreamRequest {
  readonly upstream: Upstream
  readonly method: string
  readonly path: string
  /** Built by us from an allow-list (see requestHeaders): nothing of the caller's travels unseen. */
  readonly headers: OutgoingHttpHeaders
  readonly body: RequestBody
  /** A body that is passed on is sent when the node says that it wants it (Expect: 100-continue), or nothing for a second. */
  readonly expectsContinue?: boolean
  readonly timeouts: Config['timeouts']
  readonly responseDeadline: ResponseDeadline
  /** Told of each piece of the answer; null where it says nothing of how the node serves a model. */
  readonly pulse: Pulse | null
  /** Monotonic milliseconds at which the whole request must be over. */
  readonly deadlineAt: number
  readonly signal: AbortSignal
  /** A kept-alive socket turned out to be closed: the request is sent once more, on a new one. */
  readonly onResend: () => void
  /** Called once, when the answer's head is here: where its body goes. */
  readonly receive: (head: AnswerHead) => Delivery
}
