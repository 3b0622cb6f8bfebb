import type { Clock } from '../../../shared/clock.ts'

/** Tokens that llama-server reads in one batch: Ollama's default `num_batch`. */
const batchTokens = 512

interface Reading {
  readonly startedAt: number
  endsAt: number
  readonly batchMs: number
}

/**
 * The prompts that one runner reads, batch by batch. llama-server looks at new requests between two batches only: a request
 * that has a slot waits for the end of the current batch. Only the total duration of its answer counts that wait. Times are
 * clock milliseconds.
 */
export class PromptBatches {
  readonly #readings = new Set<Reading>()

  /** Milliseconds until every batch that began before now has ended. */
  waitMs(now: number): number {
    let longest = 0
    for (const reading of this.#readings) {
      if (reading.endsAt <= now) this.#readings.delete(reading)
      else longest = Math.max(longest, batchEnd(reading, now) - now)
    }
    return longest
  }

  /** Reads a prompt from now on. When its caller leaves, the disposal lets the current batch end first. */
  begin(clock: Clock, tokens: number, msPerToken: number): Disposable {
    const startedAt = clock.now()
    const batchMs = batchTokens * msPerToken
    const reading: Reading = { startedAt, endsAt: startedAt + tokens * msPerToken, batchMs }
    this.#readings.add(reading)
    return {
      [Symbol.dispose]: () => {
        reading.endsAt = batchEnd(reading, clock.now())
        if (reading.endsAt <= clock.now()) this.#readings.delete(reading)
      },
    }
  }
}

/** The end of the current batch, or of the prompt if that is sooner. */
function batchEnd({ startedAt, endsAt, batchMs }: Reading, now: number): number {
  return Math.min(endsAt, startedAt + batchMs * (Math.floor((now - startedAt) / batchMs) + 1))
}
