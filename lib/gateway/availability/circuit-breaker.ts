import type { Config } from '../../fleet/config.ts'
import { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Random } from '../../shared/random.ts'
import { FailureWindow, type WindowBucket } from './opossum.ts'

/** The passive guard of a node is closed (takes requests), open (takes none) or half-open (takes one, on trial). */
export type BreakerState = 'closed' | 'open' | 'half-open'

/**
 * What a try at a node says of its health. `refused`: nobody listens there, proof enough at once. `neutral`: nothing,
 * because the caller left or the node was merely busy.
 */
export type HealthSign = 'good' | 'bad' | 'refused' | 'neutral'

/**
 * Why a breaker is not closed: no connection comes up, no request is answered, or what came back was bad, which may be the
 * requests' fault.
 */
export type OpenCause = 'refused' | 'silent' | 'passive'

/**
 * How long a trial may take to its response headers, in milliseconds; never longer than the first pause. More than the
 * connect limit, so that an unreachable node is known as such. And with the longest pause (20 s + 20 %) it makes 29 s:
 * a node that recovers just after a trial began to hang is used again within 30 s. A cold load takes longer, but goes
 * on, and the next trial finds the model loaded.
 */
const halfOpenLimitMs = 5000
/** A trial may take as long as requests like it usually do there, up to this: a slow node is not a node that hangs. */
const slowHalfOpenMs = 60_000

/** A request on its way, as the breaker sees it; told once what its response headers said. */
export interface HalfOpenPermit {
  settle(sign: HealthSign): void
  /** The answer that had begun well did not end well: the request was a bad one after all. */
  failAfterHead(): void
}

interface BreakerOptions {
  readonly settings: Config['breaker']
  readonly clock: Clock
  readonly random: Random
  readonly onState: (state: BreakerState) => void
  /** A request was answered well, whenever it was sent. */
  readonly onSuccess?: () => void
  /** What became of each request, as far as it says something of the node; of a good one at its head and at its end. */
  readonly onResult?: (isGood: boolean) => void
}

/** The state machine around the tally: opens when it trips, tries again after growing pauses with one request. */
export class CircuitBreaker {
  readonly #options: BreakerOptions
  readonly #backoff: Backoff
  #window: FailureWindow
  #state: BreakerState = 'closed'
  #cause: OpenCause = 'passive'
  /** Grows with every change of state: signs from before it say nothing about the node now. */
  #epoch = 0
  #permit: 'free' | 'claimed' | 'under-way' = 'free'
  #closedAt: number
  /** Ends the pause, or the trial's time. */
  #cancelTimer: () => void = () => {}

  constructor(options: BreakerOptions) {
    const { settings, clock, random } = options
    this.#options = options
    this.#backoff = new Backoff({ baseMs: settings.reset, maxMs: settings.max_reset, random })
    this.#closedAt = clock.now()
    this.#window = this.#newWindow()
  }

  get state(): BreakerState {
    return this.#state
  }

  /** Null while it is closed. */
  get cause(): OpenCause | null {
    return this.#state === 'closed' ? null : this.#cause
  }

  /** Whether a request may go to the node now. */
  get admits(): boolean {
    return this.#state === 'closed' || (this.#state === 'half-open' && this.#permit === 'free')
  }

  /** A request will go to the node: when half-open it is the trial, and no other is let in until its time is up. */
  reserve(): void {
    if (this.#state !== 'half-open' || this.#permit !== 'free') return
    this.#permit = 'claimed'
    const { clock, settings } = this.#options
    const limitMs = Math.min(halfOpenLimitMs, settings.reset)
    this.#cancelTimer = clock.after(limitMs, () => this.#open('passive'))
  }

  /**
   * A request is about to go to the node. The trial must be settled, if only as `neutral`.
   *
   * @param usualMs how long one like it usually takes there; asked only when it is a trial.
   */
  begin(usualMs: () => number = () => 0): HalfOpenPermit {
    const hasPermit = this.#state === 'half-open' && this.#permit !== 'under-way'
    this.reserve()
    if (hasPermit) this.#usePermit(usualMs())
    let epoch = this.#epoch
    let phase: 'waiting' | 'begun' | 'over' = 'waiting'
    let counted: WindowBucket | undefined
    return {
      settle: (sign) => {
        if (sign !== 'neutral') this.#options.onResult?.(sign === 'good')
        if (phase !== 'waiting') return
        phase = sign === 'good' ? 'begun' : 'over'
        if (sign === 'good') this.#options.onSuccess?.()
        if (epoch !== this.#epoch) return
        counted = this.#record(sign, hasPermit)
        epoch = this.#epoch // a trial that closed it belongs to what it began
      },
      failAfterHead: () => {
        if (phase !== 'begun' || epoch !== this.#epoch) return
        phase = 'over'
        this.#options.onResult?.(false)
        if (this.#state === 'closed') this.#window.recordFailure(counted)
      },
    }
  }

  /** No connection to the node comes up. */
  connectFailed(): void {
    this.#options.onResult?.(false)
    this.#open('refused')
  }

  /** A connection to the node comes up again: the next request tries it, without a pause. */
  connectSucceeded(): void {
    if (this.#state !== 'open' || this.#cause !== 'refused') return
    this.#cancelTimer()
    this.#move('half-open')
  }

  /** The node takes requests and answers none. */
  trip(): void {
    this.#open('silent')
  }

  /** The node spoke sensibly, if only to say that it is busy: a trial's question is answered. */
  markHealthy(): void {
    if (this.#state === 'half-open') this.#close()
  }

  /** Ends its timers and learns nothing more; for a node that left the fleet. */
  stop(): void {
    this.#epoch = Number.NaN // equals no epoch: what is still on its way changes nothing
    this.#cancelTimer()
    this.#window.stop()
  }

  #usePermit(usualMs: number): void {
    this.#permit = 'under-way'
    const { clock, settings } = this.#options
    const limitMs = Math.min(halfOpenLimitMs, settings.reset)
    if (usualMs * 2 <= limitMs) return
    this.#cancelTimer()
    this.#cancelTimer = clock.after(Math.min(usualMs * 2, slowHalfOpenMs), () => this.#open('passive'))
  }

  #record(sign: HealthSign, hasPermit: boolean): WindowBucket | undefined {
    if (sign === 'refused') this.#open('refused')
    else if (hasPermit) this.#recordPermit(sign)
    // The scheduler's panic rule sends requests past an open breaker: they are no trials.
    else if (this.#state !== 'closed') return
    else if (sign === 'bad') this.#window.recordFailure()
    else if (sign === 'good') return this.#window.recordSuccess()
    return
  }

  #recordPermit(sign: 'good' | 'bad' | 'neutral'): void {
    if (sign === 'good') this.#close()
    else if (sign === 'bad') this.#open('passive')
    // A trial that says nothing leaves the node unproven: back to open, but not for longer than before.
    else this.#open(this.#cause, { unproven: true })
  }

  /** After a quiet time the first pause again: a node that flaps is tried more and more rarely. */
  #nextPauseMs(): number {
    const { clock, settings } = this.#options
    const isQuiet = this.#state === 'closed' && clock.now() - this.#closedAt >= settings.max_reset
    if (isQuiet) this.#backoff.reset()
    return this.#backoff.next()
  }

  #open(cause: OpenCause, { unproven = false } = {}): void {
    this.#cause = cause
    if (this.#state === 'open') return
    const pauseMs = unproven ? this.#backoff.repeat() : this.#nextPauseMs()
    this.#window.stop()
    this.#cancelTimer()
    this.#cancelTimer = this.#options.clock.after(pauseMs, () => this.#move('half-open'))
    this.#move('open')
  }

  #close(): void {
    this.#cancelTimer()
    this.#window = this.#newWindow()
    this.#closedAt = this.#options.clock.now()
    this.#move('closed')
  }

  #move(state: BreakerState): void {
    this.#state = state
    this.#epoch++
    this.#permit = 'free'
    this.#options.onState(state)
  }

  #newWindow(): FailureWindow {
    const { settings, clock } = this.#options
    const tripped = () => this.#open('passive')
    return new FailureWindow({ failures: settings.failures, clock, tripped })
  }
}
