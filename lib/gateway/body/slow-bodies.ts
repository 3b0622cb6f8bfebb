import { ChurnMap } from '../../shared/churn-map.ts'
import type { Clock } from '../../shared/clock.ts'
import { Coalescer } from '../../shared/coalesce.ts'

/** The lowest speed of a body. */
export interface BodyPace {
  readonly bytesPerS: number
  /** Milliseconds that a caller may be behind at the beginning. */
  readonly graceMs: number
  /** Milliseconds that a caller may pause after it was faster. */
  readonly pauseMs: number
}

/** A body that is being received. */
export interface IncomingBody {
  /** Bytes received. */
  readonly bytes: number
  /** Whether the caller is waited for, not a node that takes the bytes. */
  readonly isAwaitingCaller: boolean
  /** May change; then the grace begins again. */
  readonly pace: BodyPace
  /** Called once when the body is too slow; it is no longer watched then. */
  tooSlow(): void
}

/** For a request without a slot. */
export const slowestPace: BodyPace = { bytesPerS: 1024, graceMs: 10_000, pauseMs: 30_000 }

/** For a request that holds a slot of a node: the slot is blocked while the body comes. */
export const slotPace: BodyPace = { bytesPerS: 256 * 1024, graceMs: 10_000, pauseMs: 10_000 }

const periodMs = 1000

interface Watched {
  bytes: number
  pace: BodyPace
  /** Milliseconds that the caller may still fall behind. */
  leftMs: number
}

/**
 * Detects slow bodies: each holds memory, a connection, and some a slot. One token bucket per body, filled by
 * received bytes and drained by waiting. One timer checks all of them, so that a chunk costs nothing.
 */
export class SlowBodies {
  readonly #clock: Clock
  readonly #watched = new ChurnMap<IncomingBody, Watched>()
  #checkedAt = 0
  readonly #checking: Coalescer

  constructor(clock: Clock) {
    this.#clock = clock
    this.#checking = new Coalescer(clock, () => this.#check())
  }

  add(body: IncomingBody): void {
    const { pace } = body
    this.#watched.set(body, { bytes: body.bytes, pace, leftMs: pace.graceMs })
    if (!this.#checking.isDue) this.#checkLater()
  }

  delete(body: IncomingBody): void {
    this.#watched.delete(body)
  }

  #checkLater(): void {
    this.#checkedAt = this.#clock.now()
    this.#checking.within(periodMs)
  }

  #check(): void {
    // After a stall of this process, bytes may wait that were not read in time.
    const elapsedMs = Math.min(this.#clock.now() - this.#checkedAt, 2 * periodMs)
    for (const [body, watched] of this.#watched) {
      if (!isTooSlow(body, watched, elapsedMs)) continue
      this.#watched.delete(body)
      body.tooSlow()
    }
    if (this.#watched.size > 0) this.#checkLater()
  }
}

function isTooSlow(body: IncomingBody, watched: Watched, elapsedMs: number): boolean {
  const { bytes, pace, isAwaitingCaller } = body
  if (pace !== watched.pace) {
    watched.pace = pace
    watched.leftMs = pace.graceMs
  }
  const gainedMs = ((bytes - watched.bytes) / pace.bytesPerS) * 1000
  watched.bytes = bytes
  const leftMs = Math.min(watched.leftMs + gainedMs, Math.max(pace.graceMs, pace.pauseMs))
  watched.leftMs = leftMs - (isAwaitingCaller ? elapsedMs : 0)
  return watched.leftMs < 0
}
