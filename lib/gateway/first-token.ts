/** Milliseconds that are never too long: a node that was asked has this much. */
const leastMs = 10_000
/** A node may take this many times what is expected of it. */
const tolerance = 5
/** A slow node, before anything is known of it: 200 ms, and 100 tokens of 4 bytes read per second. */
const priorBaseMs = 200
const priorMsPerByte = 10 / 4

/**
 * What is known of how long one node takes to its first token of a model in memory: a factor on a slow node's time for a
 * prompt of the same size. It rises at once and falls slowly: a deadline that is too short wastes what the node did.
 */
export class FirstTokens {
  readonly #factors = new Map<string, number>()

  /** An answer of a resident model began, or had not begun when it was given up, after `tookMs`. */
  observe(model: string, bodyBytes: number, tookMs: number): void {
    const seen = tookMs / priorMs(bodyBytes)
    const known = this.#factors.get(model) ?? seen
    this.#factors.set(model, Math.max(seen, 0.9 * known + 0.1 * seen))
  }

  /** Milliseconds after which the silent node has taken longer than it should: 10 s or 5 times what is expected. */
  limitMs(model: string, bodyBytes: number): number {
    return Math.max(leastMs, tolerance * (this.#factors.get(model) ?? 1) * priorMs(bodyBytes))
  }
}

function priorMs(bodyBytes: number): number {
  return priorBaseMs + bodyBytes * priorMsPerByte
}
