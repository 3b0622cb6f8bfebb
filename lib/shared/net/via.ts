/** The name of every llamero in the `Via` header of answers: it tells callers that this is no Ollama server. */
export const viaLlamero = '1.1 llamero'

/** Most `Via` entries of a request: no honest chain of proxies is longer. */
const maxEntries = 32

/**
 * The entry of this cluster in the `Via` header of requests to nodes (RFC 9110 §7.6.3). A request that comes back with it is
 * in a loop. Every instance of a cluster uses the store's uid once it is known, so each of them detects the loop.
 */
export class Via {
  #own: readonly string[]

  /** @param boot identifies this process until the uid is known */
  constructor(boot: string) {
    this.#own = [entryOf(boot)]
  }

  /** The store's uid is known, or has changed. */
  learn(uid: string): void {
    const entry = entryOf(uid)
    if (entry !== this.#own[0]) this.#own = [entry, this.#own.at(-1) ?? entry]
  }

  /** The header of a request to a node: the entries of earlier proxies, then the own entry. */
  after(passed: string | undefined): string {
    const own = this.#own[0] ?? viaLlamero
    return passed === undefined ? own : `${passed}, ${own}`
  }

  /** Whether a request has passed this cluster already. */
  isLoop(passed: string): boolean {
    const entries = passed.split(',').map((each) => each.trim().toLowerCase())
    return entries.length > maxEntries || entries.some((each) => this.#own.includes(each))
  }
}

function entryOf(id: string): string {
  return `${viaLlamero}-${id
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '')
    .slice(0, 16)}`
}
