/** How any llamero names itself in the `Via` of an answer, for those who take it for an Ollama server. */
export const viaLlamero = '1.1 llamero'

/** Of `Via` entries: no honest chain of proxies is so long. */
const maxEntries = 32

/**
 * The entry of this cluster in the `Via` header of requests to nodes (RFC 9110 §7.6.3). A request that comes back with it
 * has gone in a circle. Every instance of a cluster uses the store's uid, once it knows that: a circle closes at the
 * first of them.
 */
export class Via {
  #own: readonly string[]

  /** @param boot what tells this process from all others until the uid is known. */
  constructor(boot: string) {
    this.#own = [entryOf(boot)]
  }

  /** The store's uid is known, or is another. */
  learn(uid: string): void {
    const entry = entryOf(uid)
    if (entry !== this.#own[0]) this.#own = [entry, this.#own.at(-1) ?? entry]
  }

  /** The header of a request to a node, behind the proxies that it has passed already. */
  after(passed: string | undefined): string {
    const own = this.#own[0] ?? viaLlamero
    return passed === undefined ? own : `${passed}, ${own}`
  }

  /** Whether a request has been here already. */
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
