import type { Address } from '../shared/address.ts'

/** How long a node says nothing until a new connection is tried, and the time between two such tries, in milliseconds. */
const silentMs = 500
const everyMs = 1000

interface ReachabilityOptions {
  /** Where to connect; null while nothing depends on that. */
  readonly address: (now: number) => Address | null
  readonly connect: (address: Address) => Promise<boolean | null>
  readonly lost: () => void
  readonly found: () => void
}

/**
 * Whether new connections to one node come up. It is asked while requests wait there in silence, and once the node is
 * lost until it is back: a connection that is dead says nothing by itself, and a node that is back is used at once.
 */
export class Reachability {
  readonly #options: ReachabilityOptions
  #isLost = false
  #isChecking = false
  #checkedAt = Number.NEGATIVE_INFINITY

  constructor(options: ReachabilityOptions) {
    this.#options = options
  }

  get isLost(): boolean {
    return this.#isLost
  }

  /** A new connection did not come up. */
  lose(): void {
    this.#isLost = true
    this.#options.lost()
  }

  /** To be called every now and then. */
  look(now: number): void {
    if (this.#isChecking || now < this.#checkedAt + everyMs) return
    const address = this.#options.address(now)
    if (!address) return
    this.#checkedAt = now
    void this.#check(address)
  }

  async #check(address: Address): Promise<void> {
    this.#isChecking = true
    const comesUp = await this.#options.connect(address)
    this.#isChecking = false
    if (comesUp === false) this.lose()
    if (comesUp !== true || !this.#isLost) return
    this.#isLost = false
    this.#options.found()
  }
}

/** Whether a node that has been silent since then is worth a try. */
export function isQuiet(silentSince: number, now: number): boolean {
  return now >= silentSince + silentMs
}
