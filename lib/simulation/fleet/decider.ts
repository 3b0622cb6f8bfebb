import type { Effect, SchedulerEvent } from '../../scheduler/events.ts'

/** Who decides: the scheduler's core, or whatever is to be compared with it. Times are seconds of the rehearsal. */
export interface Decider {
  /** Hears what happened. */
  take(event: SchedulerEvent, now: number): void
  /** Says what is to be done, once all that happened at one time was told. */
  pass(now: number): readonly Effect[]
  /** When it wants to be told that time has passed; null: when something happens. */
  nextTickAt(now: number): number | null
}
