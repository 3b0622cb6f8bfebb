import type { Candidates } from '../cost/candidates.ts'
import { candidatesOf, failedLoadOf } from '../cost/selection.ts'
import type { Candidate, RefusalReason } from '../events.ts'
import type { EntryPlan, QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'
import type { QueueLimits } from './queue-limits.ts'
import type { ReservationLimits } from './tenant-reservation.ts'

/** What would be decided on a request now, and why. */
export interface WaitEstimate {
  /** Every place it has, the cheapest first. */
  readonly candidates: readonly Candidate[]
  /** What it waits for; null when it could start now, or when nobody can tell. */
  readonly waitsFor: EntryPlan['waitsFor'] | null
  /** Monotonic seconds; null when nobody can tell. */
  readonly predictedStart: number | null
  /** Why it would not be let in; null: it would, or was. */
  readonly refused: RefusalReason | null
}

type Expectation = Pick<WaitEstimate, 'waitsFor' | 'predictedStart'>

interface Around {
  readonly list: Candidates
  readonly lines: FairQueue
  readonly admission: QueueLimits
  /** What its tenant is held to; null: nothing. */
  readonly limits: ReservationLimits | null
}

/** Of a request in the queue, or of one as though it came now. Nothing is changed. */
export function estimateWait(waiting: QueueEntry, around: Around, now: number): WaitEstimate {
  const { list, lines } = around
  const candidates = candidatesOf(waiting, list, now)
  const expectation = expect(waiting, candidates[0], around, now)
  const isQueued = lines.get(waiting.work.id) === waiting
  const refused = isQueued ? null : refusalOf(waiting, expectation, around, now)
  return { candidates, ...expectation, refused }
}

/** As planned; else at the place that is best now, after those that go first. */
function expect(
  waiting: QueueEntry,
  best: Candidate | undefined,
  { list, lines, limits }: Around,
  now: number,
): Expectation {
  const { plan, work, drainS } = waiting
  if (plan) return { waitsFor: plan.waitsFor, predictedStart: plan.startsAt }
  if (limits && list.cheapestModest(waiting, limits.others, () => 0, now) < 0)
    return { waitsFor: 'share', predictedStart: now + (lines.drainS(work) + drainS) / limits.part }
  if (!best) return { waitsFor: null, predictedStart: null }
  const { perS } = list.flow(now)
  const ahead = lines.aheadOf(waiting)
  const predictedStart = now + best.start + (perS > 0 ? ahead / perS : 0)
  if (best.state === 'absent' || best.state === 'loading') return { waitsFor: 'load', predictedStart }
  return { waitsFor: best.state === 'full' || ahead > 0 ? 'slot' : null, predictedStart }
}

/** What a newcomer would be told. */
function refusalOf(
  waiting: QueueEntry,
  { waitsFor, predictedStart }: Expectation,
  { list, lines, admission }: Around,
  now: number,
): RefusalReason | null {
  const { work, rule } = waiting
  if (!list.admitsAnywhere(waiting)) return 'no-node'
  if (predictedStart === null) return failedLoadOf(waiting, list, now) && 'load-failed'
  if (waitsFor === null || waitsFor === 'load') return null
  const withIt = {
    length: lines.length + 1,
    drainS: () => lines.drainS(work) + waiting.drainS,
    isStanding: () => lines.isStanding(work),
  }
  const ttftS = predictedStart - now + work.promptTokens * list.flow(now).prefillPerToken
  const refusal = admission.judge(waiting, withIt, ttftS)
  // A more urgent one takes the place of the last.
  return refusal === 'queue-full' && (lines.last?.rule.rank ?? 0) > rule.rank ? null : refusal
}
