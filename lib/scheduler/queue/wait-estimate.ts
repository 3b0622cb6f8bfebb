import type { Candidates } from '../cost/candidates.ts'
import { candidatesOf, failedLoadOf } from '../cost/selection.ts'
import type { Candidate, RefusalReason } from '../events.ts'
import type { EntryPlan, QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'
import type { QueueLimits } from './queue-limits.ts'
import type { ReservationLimits } from './tenant-reservation.ts'

/** What a pass would decide on a request now, and why. */
export interface WaitEstimate {
  /** All its candidates, the cheapest first. */
  readonly candidates: readonly Candidate[]
  /** What it would wait for; null: it could start now, or that is unknown. */
  readonly waitsFor: EntryPlan['waitsFor'] | null
  /** Monotonic seconds; null: unknown. */
  readonly predictedStart: number | null
  /** Why it would be refused; null: it would be admitted, or was. */
  readonly refused: RefusalReason | null
}

type Expectation = Pick<WaitEstimate, 'waitsFor' | 'predictedStart'>

interface EstimateInputs {
  readonly list: Candidates
  readonly queue: FairQueue
  readonly queueLimits: QueueLimits
  /** Limits of its tenant; null: none. */
  readonly limits: ReservationLimits | null
}

/** Estimates for a queued request, or for one as though it arrived now. Changes nothing. */
export function estimateWait(entry: QueueEntry, around: EstimateInputs, now: number): WaitEstimate {
  const { list, queue } = around
  const candidates = candidatesOf(entry, list, now)
  const expectation = expect(entry, candidates[0], around, now)
  const isQueued = queue.get(entry.request.id) === entry
  const refused = isQueued ? null : refusalOf(entry, expectation, around, now)
  return { candidates, ...expectation, refused }
}

/** As planned; else at the best candidate now, after the requests that go first. */
function expect(
  entry: QueueEntry,
  best: Candidate | undefined,
  { list, queue, limits }: EstimateInputs,
  now: number,
): Expectation {
  const { plan, request, drainS } = entry
  if (plan) return { waitsFor: plan.waitsFor, predictedStart: plan.startsAt }
  if (limits && list.cheapestSpare(entry, limits.others, () => 0, now) < 0)
    return { waitsFor: 'share', predictedStart: now + (queue.drainS(request) + drainS) / limits.part }
  if (!best) return { waitsFor: null, predictedStart: null }
  const { perS } = list.flow(now)
  const ahead = queue.aheadOf(entry)
  const predictedStart = now + best.start + (perS > 0 ? ahead / perS : 0)
  if (best.state === 'absent' || best.state === 'loading') return { waitsFor: 'load', predictedStart }
  return { waitsFor: best.state === 'full' || ahead > 0 ? 'slot' : null, predictedStart }
}

/** Why a newcomer would be refused. */
function refusalOf(
  entry: QueueEntry,
  { waitsFor, predictedStart }: Expectation,
  { list, queue, queueLimits }: EstimateInputs,
  now: number,
): RefusalReason | null {
  const { request, classParameters } = entry
  if (!list.admitsAnywhere(entry)) return 'no-node'
  if (predictedStart === null) return failedLoadOf(entry, list, now) && 'load-failed'
  if (waitsFor === null || waitsFor === 'load') return null
  const withIt = {
    length: queue.length + 1,
    drainS: () => queue.drainS(request) + entry.drainS,
    isStanding: () => queue.isStanding(request),
  }
  const ttftS = predictedStart - now + request.promptTokens * list.flow(now).prefillPerToken
  const refusal = queueLimits.check(entry, withIt, ttftS)
  // A more urgent request takes the place of the last one.
  return refusal === 'queue-full' && (queue.last?.classParameters.rank ?? 0) > classParameters.rank
    ? null
    : refusal
}
