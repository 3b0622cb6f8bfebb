import type { Clock } from '../../shared/clock.ts'
import { type Compare, type Entry, isMet } from '../../store/store.ts'

/**
 * When a renewal, or the grant that a term began with, was SENT: by the monotonic clock, which stands still while a
 * machine is suspended, and by the wall clock.
 */
interface Moment {
  readonly at: number
  readonly date: number
}

/** This instance has a lease and tries to put the leader key. */
export interface ElectionCandidate {
  readonly phase: 'candidate'
  readonly lease: string
  readonly sent: Moment
  /** Monotonic milliseconds. */
  readonly validUntil: number
}

/** This instance holds the leader key. */
export interface Leader extends Omit<ElectionCandidate, 'phase'> {
  readonly phase: 'leader'
  readonly fence: bigint
}

/** The leader key, and its value while this instance leads. */
interface LeaderKey {
  readonly key: string
  readonly id: string
}

/** What must hold for the leader key during the term: the condition of every transaction of the leader. */
export function holding({ fence, lease }: Leader, { key, id }: LeaderKey): readonly Compare[] {
  return [
    { key, created: fence },
    { key, value: id },
    { key, lease },
  ]
}

/** Whether the leader key, as it was read, belongs to this term. */
export function isHeld(term: Leader, leaderKey: LeaderKey, entry: Entry | null): boolean {
  return holding(term, leaderKey).every((compare) => isMet(compare, entry))
}

export function momentOf(clock: Clock): Moment {
  return { at: clock.now(), date: clock.date().getTime() }
}

/** Milliseconds since then, by the clock on which more of them passed. */
export function ageOf({ at, date }: Moment, clock: Clock): number {
  return Math.max(clock.now() - at, clock.date().getTime() - date)
}
