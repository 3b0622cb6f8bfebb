import type { Decision, RefusalReason, SchedulingRequest, WithdrawalReason } from './events.ts'

/** What came of a request that was sent to a node; `left`: its caller did not wait for the end. */
type SentOutcome = 'running' | 'answered' | 'failed' | 'busy' | 'left'

/** What was decided, and what came of it. Moments are monotonic seconds. */
export interface LoggedDecision {
  readonly id: string
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly at: number
  /** Seconds from its arrival until then. */
  readonly waited: number
  /** Null where it was sent to no node. */
  readonly decision: Decision | null
  readonly outcome: SentOutcome | RefusalReason | WithdrawalReason
  /** Seconds from arrival to the first token; null while there is none, when none came, and where nobody can tell. */
  readonly ttft: number | null
}

/** Changed by the log only. */
export type DecisionEntry = { -readonly [Key in keyof LoggedDecision]: LoggedDecision[Key] }

/**
 * The last decisions, with predicted against actual times to the first token. Of those that were sent and of those that were
 * not as many are kept: a storm of refusals shall not push out what was served.
 */
export class DecisionLog {
  readonly #sent: Ring
  readonly #unsent: Ring
  readonly #begun: (entry: LoggedDecision) => void

  /** @param begun is told of each request whose first token came. */
  constructor(keep: number, begun: (entry: LoggedDecision) => void) {
    this.#sent = new Ring(keep)
    this.#unsent = new Ring(keep)
    this.#begun = begun
  }

  /** It was sent to a node. The log is to be told what comes of the entry. */
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

  /** It was refused, or left the queue. */
  unsent(request: SchedulingRequest, outcome: RefusalReason | WithdrawalReason, now: number): void {
    this.#unsent.add(entryOf(request, now, null, outcome))
  }

  /** The newest first. */
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
