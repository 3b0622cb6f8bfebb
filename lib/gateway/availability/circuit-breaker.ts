import type { Config } from '../../fleet/config.ts'
import { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Random } from '../../shared/random.ts'
import { FailureWindow, type WindowBucket } from './opossum.ts'

/** Closed: requests pass. Open: none pass. Half-open: one passes, with a permit. */
export type BreakerState = 'closed' | 'open' | 'half-open'

/**
 * What an attempt says about the health of its node. `refused`: no connection came up, which is proof at once.
 * `neutral`: nothing, because the caller left or the node was busy.
 */
export type HealthSign = 'good' | 'bad' | 'refused' | 'neutral'

/**
 * Why a breaker is not closed: no connection comes up, no request gets a response, or too many responses failed,
 * which may be the requests' fault.
 */
export type OpenCause = 'refused' | 'silent' | 'passive'

/**
 * How long a half-open request may take to its response head, in milliseconds; never longer than the first pause.
 * More than the connect limit, so that an unreachable node is known as such. With the longest pause (20 s + 20 %) it
 * makes 29 s: a node that recovers just after a half-open request began to hang is used again within 30 s. A cold
 * load takes longer, but goes on, and the next half-open request finds the model loaded.
 */
const halfOpenLimitMs = 5000
/** A half-open request may take as long as similar requests usually do there, up to this limit, in milliseconds. */
const slowHalfOpenMs = 60_000

/** A request in flight, as the breaker sees it; settled once, at the response head. */
export interface HalfOpenPermit {
  settle(sign: HealthSign): void
  /** The response began well and broke later: the request counts as failed. */
  failAfterHead(): void
}

interface BreakerOptions {
  readonly settings: Config['breaker']
  readonly clock: Clock
  readonly random: Random
  readonly onState: (state: BreakerState) => void
  /** Called at each good response, also when the request was sent long ago. */
  readonly onSuccess?: () => void
  /**
   * Called with the result of each request that says something about the node; for a good one at its head and at its
   * end.
   */
  readonly onResult?: (isGood: boolean) => void
}

/**
 * The circuit breaker of a node. It opens when the failure window trips, and lets one request through after pauses
 * that grow.
 */
export class CircuitBreaker {
  readonly #options: BreakerOptions
  readonly #backoff: Backoff
  #window: FailureWindow
  #state: BreakerState = 'closed'
  #cause: OpenCause = 'passive'
  /** Grows with each change of state: results from before a change say nothing about the node now. */
  #epoch = 0
  #permit: 'free' | 'reserved' | 'in-use' = 'free'
  #closedAt: number
  /** Ends the pause, or the time of the half-open request. */
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

  /**
   * A request is about to be sent. In the half-open state it takes the permit, and no other passes until its time is
   * up.
   */
  reserve(): void {
    if (this.#state !== 'half-open' || this.#permit !== 'free') return
    this.#permit = 'reserved'
    const { clock, settings } = this.#options
    const limitMs = Math.min(halfOpenLimitMs, settings.reset)
    this.#cancelTimer = clock.after(limitMs, () => this.#open('passive'))
  }

  /**
   * A request is sent now. Its permit must be settled, if only as `neutral`.
   *
   * @param usualMs how long a similar request usually takes there; called only for a half-open request.
   */
  begin(usualMs: () => number = () => 0): HalfOpenPermit {
    const hasPermit = this.#state === 'half-open' && this.#permit !== 'in-use'
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
        epoch = this.#epoch // a half-open request that closed the breaker counts in the new window
      },
      failAfterHead: () => {
        if (phase !== 'begun' || epoch !== this.#epoch) return
        phase = 'over'
        this.#options.onResult?.(false)
        if (this.#state === 'closed') this.#window.recordFailure(counted)
      },
    }
  }

  /** A connection to the node did not come up. */
  connectFailed(): void {
    this.#options.onResult?.(false)
    this.#open('refused')
  }

  /** A connection to the node comes up again: the next request tries the node, without a pause. */
  connectSucceeded(): void {
    if (this.#state !== 'open' || this.#cause !== 'refused') return
    this.#cancelTimer()
    this.#move('half-open')
  }

  /** Opens: the node takes requests and responds to none. */
  trip(): void {
    this.#open('silent')
  }

  /** The node responded correctly, if only that it is busy: a half-open breaker closes. */
  markHealthy(): void {
    if (this.#state === 'half-open') this.#close()
  }

  /** Ends the timers; later results change nothing. For a node that has left the fleet. */
  stop(): void {
    this.#epoch = Number.NaN // equals no epoch: requests in flight change nothing
    this.#cancelTimer()
    this.#window.stop()
  }

  #usePermit(usualMs: number): void {
    this.#permit = 'in-use'
    const { clock, settings } = this.#options
    const limitMs = Math.min(halfOpenLimitMs, settings.reset)
    if (usualMs * 2 <= limitMs) return
    this.#cancelTimer()
    this.#cancelTimer = clock.after(Math.min(usualMs * 2, slowHalfOpenMs), () => this.#open('passive'))
  }

  #record(sign: HealthSign, hasPermit: boolean): WindowBucket | undefined {
    if (sign === 'refused') this.#open('refused')
    else if (hasPermit) this.#recordPermit(sign)
    // The panic rule of the scheduler sends requests past an open breaker: they have no permit.
    else if (this.#state !== 'closed') return
    else if (sign === 'bad') this.#window.recordFailure()
    else if (sign === 'good') return this.#window.recordSuccess()
    return
  }

  #recordPermit(sign: 'good' | 'bad' | 'neutral'): void {
    if (sign === 'good') this.#close()
    else if (sign === 'bad') this.#open('passive')
    // Without a result the node is unproven: open again, for a pause no longer than the last.
    else this.#open(this.#cause, { unproven: true })
  }

  /** After a quiet time the pause is the first again; a node that flaps is tried more and more rarely. */
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
