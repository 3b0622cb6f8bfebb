import type { Effect, SchedulerEvent } from '../../scheduler/events.ts'
import type { Claim } from '../../scheduler/queue/claims.ts'

/** Decides where requests go: the scheduler's core, or a policy to compare with it. Times are seconds of the rehearsal. */
export interface Decider {
  /** Takes an event. */
  take(event: SchedulerEvent, now: number): void
  /** Decides, after it has taken all events of one time. */
  pass(now: number): readonly Effect[]
  /** Time of its next tick; null: it waits for an event. */
  nextTickAt(now: number): number | null
  /** The nodes that other instances should leave to this one for a while, and for which model. */
  claims(now: number): ReadonlyMap<string, Claim>
}
