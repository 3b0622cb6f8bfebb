import type { Decision, RefusalReason, SchedulingRequest, WithdrawalReason } from './events.ts'

/** The outcome of a request that was sent to a node; `left`: its caller disconnected before the end. */
type SentOutcome = 'running' | 'answered' | 'failed' | 'busy' | 'left'

/** One decision and its outcome. Times are monotonic seconds. */
export interface LoggedDecision {
  readonly id: string
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly at: number
  /** Seconds from its arrival until the decision. */
  readonly waited: number
  /** Null when it was not sent to a node. */
  readonly decision: Decision | null
  readonly outcome: SentOutcome | RefusalReason | WithdrawalReason
  /** Seconds from arrival to the first token; null before it, without one, and when it is unknown. */
  readonly ttft: number | null
}

/** Only the log changes it. */
export type DecisionEntry = { -readonly [Key in keyof LoggedDecision]: LoggedDecision[Key] }

/**
 * The last decisions, with predicted and actual times to the first token. Sent and unsent requests have separate rings:
 * a storm of refusals must not push out the served ones.
 */
export class DecisionLog {
  readonly #sent: Ring
  readonly #unsent: Ring
  readonly #begun: (entry: LoggedDecision) => void

  /** @param begun called at the first token of each request. */
  constructor(keep: number, begun: (entry: LoggedDecision) => void) {
    this.#sent = new Ring(keep)
    this.#unsent = new Ring(keep)
    this.#begun = begun
  }

  /** A request was sent to a node. Report its outcome with `begun` and `over`. */
  sent(request: SchedulingRequest, decision: Decision): DecisionEntry {
    const entry = entryOf(request, decision.at, decision, 'running')
    this.#sent.add(entry)
    return entry
  }

  begun(entry: DecisionEntry, ttft: number): void {
    entry.ttft = ttft
    this.#begun(entry)
  }

  over(entry: DecisionEntry, outcome: SentOutcome): void {
    entry.outcome = outcome
  }

  /** A request was refused, or left the queue. */
  unsent(request: SchedulingRequest, outcome: RefusalReason | WithdrawalReason, now: number): void {
    this.#unsent.add(entryOf(request, now, null, outcome))
  }

  /** All kept decisions, the newest first. */
  latest(): readonly LoggedDecision[] {
    return [...this.#sent.all(), ...this.#unsent.all()].sort((a, b) => b.at - a.at)
  }
}

function entryOf(
  { id, model, tenant, class: named, arrivedAt }: SchedulingRequest,
  at: number,
  decision: Decision | null,
  outcome: DecisionEntry['outcome'],
): DecisionEntry {
  const waited = Math.max(0, at - arrivedAt)
  return { id, model, tenant, class: named, at, waited, decision, outcome, ttft: null }
}

class Ring {
  readonly #keep: number
  readonly #entries: DecisionEntry[] = []
  #next = 0

  constructor(keep: number) {
    this.#keep = keep
  }

  add(entry: DecisionEntry): void {
    this.#entries[this.#next] = entry
    this.#next = (this.#next + 1) % this.#keep
  }

  /** The newest first. */
  all(): DecisionEntry[] {
    return [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)].reverse()
  }
}
