import type { Parameters } from '../parameters.ts'

/** A request that ended. */
interface Completion {
  /** Seconds it waited on the node: Ollama's total less all that it did. */
  readonly nodeWaitS: number
  /** Seconds of these that it may have waited although it had a slot. */
  readonly batchWaitS: number
  /** Streams of the runner when it began, its own included. */
  readonly streams: number
  /** Whether others wait for the model. */
  readonly isWanted: boolean
}

/** A request that the node turned away. */
interface Refusal {
  readonly startedAt: number
  /** Requests on the runner at that moment, its own included. */
  readonly running: number
}

/**
 * How many requests one runner takes at once. Ollama's API does not tell (docs/routing.md#slots): configured, else learned
 * from how long requests wait on the node. A node that says it is full halves either.
 */
export class SlotCount {
  readonly #rules: Parameters['slots']
  #learned: number | null = null
  /** The operator's number when that was learned: another one ends what was learned before. */
  #learnedUnder: number | null = null
  #limitedAt = Number.NEGATIVE_INFINITY
  #heldUntil = 0
  #prompt = 0

  constructor(rules: Parameters['slots']) {
    this.#rules = rules
  }

  /** @param configured the operator's number, which is never exceeded; null when there is none. */
  count(configured: number | null): number {
    this.#adopt(configured)
    if (configured === null) return this.#learned ?? this.#rules.initial
    return Math.min(configured, this.#learned ?? configured)
  }

  /**
   * A llama-server looks at new requests between two batches, so a request with a slot waits as well: for the batch under way,
   * which is long while a prompt of another is read. A wait that this explains proves nothing either way.
   */
  completed(
    { nodeWaitS, batchWaitS, streams, isWanted }: Completion,
    configured: number | null,
    now: number,
  ): void {
    const count = this.count(configured)
    if (streams < count) return
    const { longWaitS, promptWaitS } = this.#rules
    if (nodeWaitS > longWaitS + batchWaitS) {
      this.#prompt = 0
      // What the operator configured is lowered by a refusal only: waits may have other causes. Others that began when the
      // limit was as high may have waited as well, and say no more than the first.
      if (configured === null && streams <= count && count > 1) this.#limit(count - 1, now)
      return
    }
    if (nodeWaitS < promptWaitS) this.#prompt++
    else if (nodeWaitS > promptWaitS + batchWaitS) this.#prompt = 0
    if (this.#prompt < this.#rules.evidence || !isWanted || now < this.#heldUntil) return
    this.#prompt = 0
    if (count < (configured ?? Number.POSITIVE_INFINITY)) this.#learned = count + 1
  }

  /** The node said that it is full. */
  refused({ startedAt, running }: Refusal, configured: number | null, now: number): void {
    const count = this.count(configured)
    // Requests that were under way together are refused together: that is one sign, not many. And a node of which less than
    // half was in use has other reasons than our count.
    if (startedAt <= this.#limitedAt || 2 * running < count) return
    this.#limit(Math.max(1, Math.floor(count / 2)), now)
  }

  /** What was learned where no number is configured; null when nothing was. */
  record(): number | null {
    return this.#learnedUnder === null ? this.#learned : null
  }

  restore(learned: number | null): void {
    if (learned === null || !(learned >= 1)) return
    this.#learned = Math.floor(learned)
    this.#learnedUnder = null
  }

  #adopt(configured: number | null): void {
    if (configured === this.#learnedUnder) return
    this.#learnedUnder = configured
    this.#learned = null
    this.#limitedAt = Number.NEGATIVE_INFINITY
    this.#heldUntil = 0
    this.#prompt = 0
  }

  #limit(count: number, now: number): void {
    this.#learned = count
    this.#limitedAt = now
    this.#heldUntil = now + this.#rules.holdS
    this.#prompt = 0
  }
}
