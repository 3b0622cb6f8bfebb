import { ChurnMap } from '../../shared/churn-map.ts'
import type { Clock } from '../../shared/clock.ts'

/** How slowly a body may come. */
export interface BodyPace {
  readonly bytesPerS: number
  /** Milliseconds that a caller may fall behind it at the beginning. */
  readonly graceMs: number
  /** Milliseconds that a caller may pause after it was faster. */
  readonly pauseMs: number
}

/** A body on its way from its caller. */
export interface IncomingBody {
  /** Bytes that have come. */
  readonly bytes: number
  /** It is the caller that is waited for, not a node that takes in what came. */
  readonly isAwaitingCaller: boolean
  /** May change while the body comes: then its grace begins again. */
  readonly pace: BodyPace
  /** Called once when it comes too slowly; then it is no longer watched. */
  tooSlow(): void
}

/** Of a request that holds no slot. */
export const slowestPace: BodyPace = { bytesPerS: 1024, graceMs: 10_000, pauseMs: 30_000 }

/** Of a request that holds a slot of a node: nothing else runs there as long as its body comes. */
export const slotPace: BodyPace = { bytesPerS: 256 * 1024, graceMs: 10_000, pauseMs: 10_000 }

const periodMs = 1000

interface Watched {
  bytes: number
  pace: BodyPace
  /** Milliseconds that are left to fall behind. */
  leftMs: number
}

/**
 * Tells of bodies that come too slowly: each holds memory, a connection, and some a slot. A token bucket for each body,
 * filled by what comes and drained by waiting. One timer looks at all of them, so that a body costs nothing by the chunk.
 */
export class SlowBodies {
  readonly #clock: Clock
  readonly #watched = new ChurnMap<IncomingBody, Watched>()
  #checkedAt = 0
  #isArmed = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(body: IncomingBody): void {
    const { pace } = body
    this.#watched.set(body, { bytes: body.bytes, pace, leftMs: pace.graceMs })
    if (!this.#isArmed) this.#arm()
  }

  delete(body: IncomingBody): void {
    this.#watched.delete(body)
  }

  #arm(): void {
    this.#isArmed = true
    this.#checkedAt = this.#clock.now()
    this.#clock.after(periodMs, () => this.#check())
  }

  #check(): void {
    this.#isArmed = false
    // After a stall of our own there may be bytes that were not read in time.
    const elapsedMs = Math.min(this.#clock.now() - this.#checkedAt, 2 * periodMs)
    for (const [body, watched] of this.#watched) {
      if (!isTooSlow(body, watched, elapsedMs)) continue
      this.#watched.delete(body)
      body.tooSlow()
    }
    if (this.#watched.size > 0) this.#arm()
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
