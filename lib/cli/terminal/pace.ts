/** Milliseconds over which a rate is measured, as Ollama does. */
const windowMs = 10_000
/** Less proves nothing: a node's progress is written once a second. */
const shortestMs = 2000

/** How fast something grows: a rate over the last ten seconds. */
export class JobPace {
  readonly #seen: { readonly at: number; readonly bytes: number }[] = []

  /** @param now monotonic milliseconds. @param bytes how far it is. */
  observe(now: number, bytes: number): void {
    // A node that begins anew has less than before.
    if (bytes < (this.#seen.at(-1)?.bytes ?? 0)) this.#seen.length = 0
    this.#seen.push({ at: now, bytes })
    while ((this.#seen[1]?.at ?? now) <= now - windowMs) this.#seen.shift()
  }

  /** Bytes per second; null as long as too little was seen. */
  get rate(): number | null {
    const first = this.#seen[0]
    const last = this.#seen.at(-1)
    if (!first || !last || last.at - first.at < shortestMs) return null
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at)
  }
}
