import type { Parameters } from '../parameters.ts'

/** A request that ended. */
interface Completion {
  /** Seconds that it waited on the node: Ollama's total minus load, prefill and decode. */
  readonly nodeWaitS: number
  /** Part of that wait that a request with a slot may have as well. */
  readonly batchWaitS: number
  /** Requests on the runner when it began, itself included. */
  readonly streams: number
  /** Whether others wait for the model. */
  readonly isWanted: boolean
}

/** A request that the node refused as busy. */
interface Refusal {
  readonly startedAt: number
  /** Requests on the runner at that time, itself included. */
  readonly running: number
}

/**
 * How many requests one runner takes at once. Ollama's API does not report it (docs/routing.md#slots), so it is configured,
 * or learned from the waits on the node. A busy answer of the node halves it in both cases.
 */
export class SlotCount {
  readonly #parameters: Parameters['slots']
  #learned: number | null = null
  /** The configured number when it was learned: a new configuration discards what was learned. */
  #learnedUnder: number | null = null
  #limitedAt = Number.NEGATIVE_INFINITY
  #heldUntil = 0
  #prompt = 0

  constructor(parameters: Parameters['slots']) {
    this.#parameters = parameters
  }

  /** @param configured the operator's number, which is never exceeded; null: none. */
  count(configured: number | null): number {
    this.#adopt(configured)
    if (configured === null) return this.#learned ?? this.#parameters.initial
    return Math.min(configured, this.#learned ?? configured)
  }

  /**
   * llama-server takes in new requests between two batches, so a request with a slot also waits for the current batch, which
   * is long while another prompt is read. A wait that this explains is no evidence for either side.
   */
  completed(
    { nodeWaitS, batchWaitS, streams, isWanted }: Completion,
    configured: number | null,
    now: number,
  ): void {
    const count = this.count(configured)
    if (streams < count) return
    const { longWaitS, promptWaitS } = this.#parameters
    if (nodeWaitS > longWaitS + batchWaitS) {
      this.#prompt = 0
      // Waits may have other causes, so only a refusal lowers a configured number. Requests that began under a higher limit
      // waited for the same reason as the first one, and add no evidence.
      if (configured === null && streams <= count && count > 1) this.#limit(count - 1, now)
      return
    }
    if (nodeWaitS < promptWaitS) this.#prompt++
    else if (nodeWaitS > promptWaitS + batchWaitS) this.#prompt = 0
    if (this.#prompt < this.#parameters.evidence || !isWanted || now < this.#heldUntil) return
    this.#prompt = 0
    if (count < (configured ?? Number.POSITIVE_INFINITY)) this.#learned = count + 1
  }

  /** The node answered that it is full. */
  refused({ startedAt, running }: Refusal, configured: number | null, now: number): void {
    const count = this.count(configured)
    // Requests that were in flight together are refused together: that is one piece of evidence. A node with less than half
    // of its slots in use refuses for another reason than the slot count.
    if (startedAt <= this.#limitedAt || 2 * running < count) return
    this.#limit(Math.max(1, Math.floor(count / 2)), now)
  }

  /** The learned number if none is configured; null: nothing was learned. */
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
    this.#heldUntil = now + this.#parameters.holdS
    this.#prompt = 0
  }
}
