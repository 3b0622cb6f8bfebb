import type { Decision, Work } from './events.ts'

/** What was decided, and what came of it. */
export interface LoggedDecision {
  readonly id: string
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly decision: Decision
  /** Seconds from arrival to the first token; null while there is none, and for ever when none came. */
  readonly ttft: number | null
}

type Entry = { -readonly [Key in keyof LoggedDecision]: LoggedDecision[Key] }

/** The last decisions, with predicted against actual times to the first token. */
export class DecisionLog {
  readonly #keep: number
  readonly #ring: Entry[] = []
  #next = 0

  constructor(keep: number) {
    this.#keep = keep
  }

  /** @returns what is to be told the actual seconds to the first token. */
  add(work: Work, decision: Decision): (ttft: number) => void {
    const { id, model, tenant } = work
    const entry: Entry = { id, model, tenant, class: work.class, decision, ttft: null }
    this.#ring[this.#next] = entry
    this.#next = (this.#next + 1) % this.#keep
    return (ttft) => {
      entry.ttft = ttft
    }
  }

  /** The newest first. */
  latest(): readonly LoggedDecision[] {
    return [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)].reverse()
  }
}
