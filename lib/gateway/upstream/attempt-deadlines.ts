import type { Clock } from '../../shared/clock.ts'
import type { LeaveReason } from '../availability/upstream.ts'
import type { Streamed } from '../body/streaming-body.ts'
import type { UpstreamFault } from '../response/outcome.ts'
import type { Limit, UpstreamRequest } from './upstream-request.ts'

/** Most answers have begun before a silent node is looked at for the first time; from then on it is in such steps. */
const firstSilenceCheckMs = 3000
const silenceCheckMs = 1000
/**
 * A connection that lived through an outage says so when one of the ends sends again, which they do more and more rarely
 * the longer it lasted. Milliseconds after which a new one is made to the node that is back.
 */
const reviveMs = 3000

/** An answer of a frozen node that has not gone on for as long does not go on, in milliseconds. */
const stalledMs = 20_000

/** Where an attempt is: before the head of the answer, within the answer, held up by a slow caller, or over. */
export type AttemptPhase = 'waiting' | 'streaming' | 'paused' | 'settled'

/** The attempt that deadlines end. */
export interface TimedAttempt {
  readonly phase: AttemptPhase
  /** The body that is being passed on; null when the node has all of it. */
  readonly streamedBody: Streamed | null
  failWith(fault: UpstreamFault, cause: Error): void
}

/**
 * When an attempt must end though nothing happens: its node is silent, lost, ejected, or slower than another would be, its
 * answer stalls, or the whole request took too long. One timer at most, set to what comes first.
 */
export class AttemptDeadlines {
  readonly #request: UpstreamRequest
  readonly #clock: Clock
  readonly #attempt: TimedAttempt
  readonly #startedAt: number
  /** When the current phase last made progress: the head or a byte came, or the caller read on. */
  #progressedAt: number
  /** When a silent node is looked at next, in monotonic milliseconds. */
  #silenceCheckAt: number
  #isOverdue = false
  /** Why the node is to be left as soon as another can answer; null: it may well be working on the request. */
  #leaveFor: Exclude<LeaveReason, 'slow'> | null = null
  /** When the node could be reached again, after it was lost; null: it is not. */
  #reachableAt: number | null = null
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

  /** When the node had the whole request, or when the attempt began, in monotonic milliseconds. */
  get sentAt(): number {
    return this.#sentAt
  }

  /** A byte went or came, or the caller read on. */
  progressed(now: number): void {
    this.#progressedAt = now
  }

  /** The node has the whole request: its time to answer begins. */
  requestSent(now: number): void {
    this.#sentAt = now
    this.#silenceCheckAt = now + firstSilenceCheckMs
  }

  /** The answer has begun: its own limits may end sooner than the timer that was set for its head. */
  headReceived(): void {
    if (this.#limit().at < this.#armedAt) this.arm()
  }

  leave(reason: Exclude<LeaveReason, 'slow'>): void {
    if (this.#leaveFor !== 'lost') this.#leaveFor = reason
    if (reason === 'lost') this.#reachableAt = null
    this.#checkSilence()
  }

  /** The node can be reached again. */
  reachable(): void {
    if (this.#leaveFor === 'lost') this.#reachableAt ??= this.#clock.now()
  }

  /** The node answers again: it may well be working on the request. */
  thawed(): void {
    if (this.#leaveFor === 'frozen') this.#leaveFor = null
  }

  /** The node has answered nothing for long. */
  stall(): void {
    if (this.#clock.now() >= this.#progressedAt + stalledMs) this.#timeOut('stalled')
  }

  cancel(): void {
    this.#cancelTimer()
  }

  /** One timer per attempt, set to the nearest limit or sooner: chunks only note the time, they set no timers. */
  arm(): void {
    this.#cancelTimer()
    this.#armedAt = this.#limit().at
    const ms = Math.max(1, this.#armedAt - this.#clock.now())
    this.#cancelTimer = this.#clock.after(ms, () => this.#check())
  }

  #check(): void {
    const { at, fault } = this.#limit()
    if (this.#clock.now() < at) this.arm()
    else if (fault === 'look') this.#checkSilence()
    else this.#timeOut(fault)
  }

  /** The node is silent. Worth leaving when it takes too long, or is not to be expected to answer, but only for another. */
  #checkSilence(): void {
    const { responseDeadline } = this.#request
    const now = this.#clock.now()
    const expectedAt = this.#sentAt + responseDeadline.expectedMs()
    const isOverdue = now >= expectedAt
    if (isOverdue && !this.#isOverdue) responseDeadline.overdue(this.#sentAt)
    // Hearing of it, others may have had it ejected, and this one may have left.
    if (this.#attempt.phase !== 'waiting') return
    this.#isOverdue ||= isOverdue
    const fault = this.#failOverFault(isOverdue)
    if (fault) {
      this.#timeOut(fault)
      return
    }
    // What is expected changes with what others answer meanwhile.
    const soonest = Math.min(Math.max(expectedAt, now + 1), now + firstSilenceCheckMs)
    this.#silenceCheckAt = isOverdue || this.#leaveFor ? now + silenceCheckMs : soonest
    this.arm()
  }

  #failOverFault(isOverdue: boolean): UpstreamFault | null {
    const { responseDeadline } = this.#request
    if (this.#leaveFor && responseDeadline.canFailOver(this.#leaveFor))
      return this.#leaveFor === 'lost' ? 'node-down' : 'ejected'
    const isBack = this.#reachableAt !== null && this.#clock.now() >= this.#reachableAt + reviveMs
    if (isBack && responseDeadline.canResend()) return 'connection-lost'
    return isOverdue && responseDeadline.canFailOver('slow') ? responseDeadline.overdueFault : null
  }

  #timeOut(fault: UpstreamFault): void {
    this.#attempt.failWith(
      fault,
      new Error(`${fault} after ${Math.round(this.#clock.now() - this.#startedAt)} ms`),
    )
  }

  /** The nearest moment at which this attempt must end, and why. */
  #limit(): Limit {
    const whole: Limit = { at: this.#request.deadlineAt, fault: 'request-timeout' }
    // Whoever reads slowly has a limit of its own: see Delivery.
    if (this.#attempt.phase === 'paused') return whole
    const step = this.#step()
    return step.at < whole.at ? step : whole
  }

  #step(): Limit {
    const { timeouts, responseDeadline } = this.#request
    const { phase, streamedBody } = this.#attempt
    if (phase === 'streaming' || streamedBody) {
      // The caller who is waited for has a limit of its own as well: see Upload.
      const progressedAt = streamedBody?.isAwaitingCaller ? this.#clock.now() : this.#progressedAt
      return { at: progressedAt + timeouts.between_tokens, fault: 'stalled' }
    }
    const last = this.#sentAt + responseDeadline.atMostMs
    return last <= this.#silenceCheckAt
      ? { at: last, fault: 'first-token-timeout' }
      : { at: this.#silenceCheckAt, fault: 'look' }
  }
}
