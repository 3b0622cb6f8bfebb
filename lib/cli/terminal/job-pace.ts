/** Milliseconds over which a rate is measured, as Ollama does. */
const windowMs = 10_000
/** A shorter time is too imprecise: a node's progress is written once a second. */
const shortestMs = 2000

/** The rate at which something grows, over the last ten seconds. */
export class JobPace {
  readonly #seen: { readonly at: number; readonly bytes: number }[] = []

  /** @param now monotonic milliseconds. @param bytes done so far. */
  observe(now: number, bytes: number): void {
    // A node that starts again reports fewer bytes than before.
    if (bytes < (this.#seen.at(-1)?.bytes ?? 0)) this.#seen.length = 0
    this.#seen.push({ at: now, bytes })
    while ((this.#seen[1]?.at ?? now) <= now - windowMs) this.#seen.shift()
  }

  /** Bytes per second; null while the measured time is too short. */
  get rate(): number | null {
    const first = this.#seen[0]
    const last = this.#seen.at(-1)
    if (!first || !last || last.at - first.at < shortestMs) return null
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at)
  }
}
