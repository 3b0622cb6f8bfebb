import type { Clock } from '../shared/clock.ts'
import { type Compare, type Entry, holds } from '../store/store.ts'

/** When a renewal, or the grant that a term began with, was SENT: monotonic, and by the wall clock, which a suspended machine catches up. */
interface Moment {
  readonly at: number
  readonly date: number
}

/** This instance has a lease, and asks for the leader key. */
export interface Candidate {
  readonly phase: 'candidate'
  readonly lease: string
  readonly sent: Moment
  /** Monotonic milliseconds. */
  readonly validUntil: number
}

/** This instance holds the leader key. */
export interface Leader extends Omit<Candidate, 'phase'> {
  readonly phase: 'leader'
  readonly fence: bigint
}

/** The leader key, and the id that it carries while this instance leads. */
interface LeaderKey {
  readonly key: string
  readonly id: string
}

/** What must be true of the leader key while the term lasts: the proof of leadership in every transaction. */
export function holding({ fence, lease }: Leader, { key, id }: LeaderKey): readonly Compare[] {
  return [
    { key, created: fence },
    { key, value: id },
    { key, lease },
  ]
}

/** Whether the leader key, as it was read, is the one of this term. */
export function isHeld(term: Leader, leaderKey: LeaderKey, entry: Entry | null): boolean {
  return holding(term, leaderKey).every((compare) => holds(compare, entry))
}

export function momentOf(clock: Clock): Moment {
  return { at: clock.now(), date: clock.date().getTime() }
}

/** Milliseconds since then, by the clock that saw more of them pass. */
export function ageOf({ at, date }: Moment, clock: Clock): number {
  return Math.max(clock.now() - at, clock.date().getTime() - date)
}
