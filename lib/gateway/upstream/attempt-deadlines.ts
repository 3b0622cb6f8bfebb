import type { Clock } from '../../shared/clock.ts'
import type { LeaveReason } from '../availability/upstream.ts'
import type { Streamed } from '../body/streaming-body.ts'
import type { UpstreamFault } from '../response/outcome.ts'
import type { Limit, UpstreamRequest } from './upstream-request.ts'

/** Milliseconds until a silent node is checked, and between checks. Most responses begin before the first check. */
const firstSilenceCheckMs = 3000
const silenceCheckMs = 1000
/**
 * After a node is reachable again, an old connection may still work: TCP resends with growing pauses. After so many
 * milliseconds a new connection is made instead.
 */
const reviveMs = 3000

/** Milliseconds of silence after which a node is found to be frozen: see Reachability. */
const detectionMs = 6000

/** A response of a frozen node that has paused for so long will not go on, in milliseconds. */
const stalledMs = 20_000

const leaveFaults = { lost: 'node-down', frozen: 'frozen', failing: 'ejected', silent: 'ejected' } as const

/** The phase of an attempt: waiting for the head of the response, streaming, paused by a slow caller, or settled. */
export type AttemptPhase = 'waiting' | 'streaming' | 'paused' | 'settled'

/** An attempt, as its deadlines see it. */
export interface TimedAttempt {
  readonly phase: AttemptPhase
  /** The body that is being sent; null when the node has all of it. */
  readonly streamedBody: Streamed | null
  failWith(fault: UpstreamFault, cause: Error): void
}

/**
 * The deadlines of an attempt: its node is silent, unreachable, ejected, or slower than another would be; its
 * response stalls; or the whole request took too long. One timer at most, set to the nearest deadline.
 */
export class AttemptDeadlines {
  readonly #request: UpstreamRequest
  readonly #clock: Clock
  readonly #attempt: TimedAttempt
  readonly #startedAt: number
  /** When the current phase last made progress: a byte was sent or received, or the caller read on. */
  #progressedAt: number
  /** When the silence of the node is checked next, in monotonic milliseconds. */
  #silenceCheckAt: number
  #isOverdue = false
  /** Why the attempt fails over as soon as another node can answer; null while its node may be working on it. */
  #leaveFor: Exclude<LeaveReason, 'slow'> | null = null
  /** When the node was reachable again after it was lost; null while it is not. */
  #reachableAt: number | null = null
  /** When the node was last found to be frozen, and when it answered again; null while it does not. */
  #frozenAt = 0
  #thawedAt: number | null = null
  /** How long the node had the request before it froze. */
  #workedMs = 0
  #sentAt: number
  #cancelTimer: () => void = () => {}
  #armedAt = 0

  /** Sets no timer before `arm`. */
  constructor(request: UpstreamRequest, clock: Clock, attempt: TimedAttempt) {
    this.#request = request
    this.#clock = clock
    this.#attempt = attempt
    this.#startedAt = clock.now()
    this.#progressedAt = this.#startedAt
    this.#sentAt = this.#startedAt
    this.#silenceCheckAt = this.#sentAt + firstSilenceCheckMs
  }

  /** When the whole request was sent, or before that when the attempt began, in monotonic milliseconds. */
  get sentAt(): number {
    return this.#sentAt
  }

  /** A byte was sent or received, or the caller read on. */
  progressed(now: number): void {
    this.#progressedAt = now
  }

  /** The whole request is sent: the time to respond begins. */
  requestSent(now: number): void {
    this.#sentAt = now
    this.#silenceCheckAt = now + firstSilenceCheckMs
  }

  /** The response has begun: its limits may end sooner than the timer that was set for its head. */
  headReceived(): void {
    if (this.#limit().at < this.#armedAt) this.arm()
  }

  leave(reason: Exclude<LeaveReason, 'slow'>): void {
    if (reason === 'frozen' && this.#leaveFor !== 'frozen') this.#frozenAt = this.#clock.now()
    if (this.#leaveFor !== 'lost') this.#leaveFor = reason
    this.#thawedAt = null
    if (reason === 'lost') this.#reachableAt = null
    this.#checkSilence()
  }

  /** The node is reachable again. */
  reachable(): void {
    if (this.#leaveFor === 'lost') this.#reachableAt ??= this.#clock.now()
  }

  /**
   * The node answers again: it may be working on the request. If what froze was the network, the old connection may be
   * dead. The request waits as long again as the node had worked on it.
   */
  thawed(): void {
    if (this.#leaveFor !== 'frozen') return
    this.#leaveFor = null
    this.#thawedAt = this.#clock.now()
    this.#workedMs = Math.max(0, this.#frozenAt - detectionMs - this.#sentAt)
  }

  /** The node has answered nothing for long: a paused response will not go on. */
  stall(): void {
    if (this.#clock.now() >= this.#progressedAt + stalledMs) this.#timeOut('stalled')
  }

  cancel(): void {
    this.#cancelTimer()
  }

  /** Sets the timer to the nearest limit, or sooner. Received chunks only note the time and set no timer. */
  arm(): void {
    this.#cancelTimer()
    this.#armedAt = this.#limit().at
    const ms = Math.max(1, this.#armedAt - this.#clock.now())
    this.#cancelTimer = this.#clock.after(ms, () => this.#check())
  }

  #check(): void {
    const { at, fault } = this.#limit()
    if (this.#clock.now() < at) this.arm()
    else if (fault === 'check-silence') this.#checkSilence()
    else this.#timeOut(fault)
  }

  /** Fails over from a silent node that is overdue or not expected to answer, but only when another node can answer. */
  #checkSilence(): void {
    const { responseDeadline } = this.#request
    const now = this.#clock.now()
    const expectedAt = this.#sentAt + responseDeadline.expectedMs()
    const isOverdue = now >= expectedAt
    if (isOverdue && !this.#isOverdue) responseDeadline.overdue(this.#sentAt)
    // `overdue` may eject the node, which ends this attempt.
    if (this.#attempt.phase !== 'waiting') return
    this.#isOverdue ||= isOverdue
    const fault = this.#failOverFault(isOverdue)
    if (fault) {
      this.#timeOut(fault)
      return
    }
    // The expected time changes with other responses.
    const soonest = Math.min(Math.max(expectedAt, now + 1), now + firstSilenceCheckMs)
    this.#silenceCheckAt = isOverdue || this.#leaveFor ? now + silenceCheckMs : soonest
    this.arm()
  }

  #failOverFault(isOverdue: boolean): UpstreamFault | null {
    const { responseDeadline } = this.#request
    if (this.#leaveFor && responseDeadline.canFailOver(this.#leaveFor)) return leaveFaults[this.#leaveFor]
    const isBack = this.#reachableAt !== null && this.#clock.now() >= this.#reachableAt + reviveMs
    if (isBack && responseDeadline.canResend('lost')) return 'connection-lost'
    const isOutlived =
      this.#thawedAt !== null && this.#clock.now() >= this.#thawedAt + reviveMs + this.#workedMs
    if (isOutlived && responseDeadline.canResend('frozen')) return 'connection-lost'
    return isOverdue && responseDeadline.canFailOver('slow') ? responseDeadline.overdueFault : null
  }

  #timeOut(fault: UpstreamFault): void {
    this.#attempt.failWith(
      fault,
      new Error(`${fault} after ${Math.round(this.#clock.now() - this.#startedAt)} ms`),
    )
  }

  /** The nearest deadline of this attempt, and its fault. */
  #limit(): Limit {
    const whole: Limit = { at: this.#request.deadlineAt, fault: 'request-timeout' }
    // A slow caller has its own limit: see ResponseWriter.
    if (this.#attempt.phase === 'paused') return whole
    const step = this.#step()
    return step.at < whole.at ? step : whole
  }

  #step(): Limit {
    const { timeouts, responseDeadline } = this.#request
    const { phase, streamedBody } = this.#attempt
    if (phase === 'streaming' || streamedBody) {
      // While the caller is slow to send, its own limit counts: see StreamingBody.
      const progressedAt = streamedBody?.isAwaitingCaller ? this.#clock.now() : this.#progressedAt
      return { at: progressedAt + timeouts.between_tokens, fault: 'stalled' }
    }
    const last = this.#sentAt + responseDeadline.atMostMs
    return last <= this.#silenceCheckAt
      ? { at: last, fault: 'first-token-timeout' }
      : { at: this.#silenceCheckAt, fault: 'check-silence' }
  }
}
