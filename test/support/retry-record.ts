import { setTimeout } from 'node:timers/promises'
import type { Asked } from './callers.ts'

const windowMs = 10_000
const sampleMs = 250
/** Three retries a second are always allowed, and those of five seconds are saved up: in so many requests they make 1.2 attempts each. */
const fewestRequests = (3 * (10 + 5)) / 0.2

/** How many retries an instance had made, again and again while a storm blows. */
export class RetryRecord {
  readonly #samples: { readonly at: number; readonly retries: number }[] = []
  readonly #over = new AbortController()
  readonly #ended: Promise<void>

  /** @param retries says how many there were so far. */
  constructor(retries: () => Promise<number>) {
    this.#ended = this.#sample(retries)
  }

  async stop(): Promise<void> {
    this.#over.abort()
    await this.#ended
  }

  /** Most attempts for each request that came within any ten seconds (P12). */
  worstRatio(asked: readonly Asked[]): number {
    const starts = asked.map(({ startedAt }) => startedAt).sort((a, b) => a - b)
    let worst = 1
    let first = 0
    for (const { at, retries } of this.#samples) {
      while (at - (this.#samples[first + 1]?.at ?? at) >= windowMs) first++
      const { at: since, retries: before } = this.#samples[first] ?? { at, retries }
      if (at - since < windowMs) continue
      const requests = starts.filter((start) => start > since && start <= at).length
      worst = Math.max(worst, 1 + (retries - before) / Math.max(fewestRequests, requests))
    }
    return worst
  }

  async #sample(retries: () => Promise<number>): Promise<void> {
    while (!this.#over.signal.aborted) {
      this.#samples.push({ at: performance.now(), retries: await retries() })
      await setTimeout(sampleMs, undefined, { signal: this.#over.signal }).catch(() => {})
    }
  }
}
