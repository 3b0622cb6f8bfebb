import type { Clock } from '../shared/clock.ts'

/** The last contacts of this instance with one node, in monotonic milliseconds; -Infinity: never. */
export interface Contact {
  /** A request of this instance was answered. */
  readonly answeredAt: number
  /** A probe of this instance was answered. */
  readonly probedAt: number
  /** A request of this instance failed because of the node. */
  readonly failedAt: number
}

interface Kept {
  answeredAt: number
  probedAt: number
  failedAt: number
  /** How many windows (`windowMs`) had an answer, and when the last one ends. */
  windows: number
  windowEnds: number
  /** Whether listeners are to be called at the next answer, even if the last one was good. */
  isAwaited: boolean
}

const ages = Number.NEGATIVE_INFINITY
const never: Contact = { answeredAt: ages, probedAt: ages, failedAt: ages }
/** Milliseconds in which any number of answers of a node count once, and are published once. */
const windowMs = 5000
/** Milliseconds without an answer after which a node is no longer published. */
const forgottenMs = 60_000

/**
 * What this instance learns of the nodes from its own requests: evidence against which the leader's advice is checked.
 * Written by the gateway with every outcome and by probes, read by the control plane.
 */
export class Contacts {
  readonly #clock: Clock
  readonly #kept = new Map<string, Kept>()
  readonly #listeners: ((node: string) => void)[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  of(node: string): Contact {
    return this.#kept.get(node) ?? never
  }

  /** A request of this instance was answered, by an answer that shows that the node works. */
  answered(node: string): void {
    const kept = this.#keep(node)
    const now = this.#clock.now()
    const isNews = kept.isAwaited || kept.answeredAt <= kept.failedAt
    kept.isAwaited = false
    kept.answeredAt = now
    if (now >= kept.windowEnds) {
      kept.windows++
      kept.windowEnds = now + windowMs
    }
    if (isNews) this.#tell(node)
  }

  /** Has the listeners called at the next answer of a node. */
  expectNews(node: string): void {
    this.#keep(node).isAwaited = true
  }

  /** A probe of this instance was answered. */
  probed(node: string): void {
    this.#keep(node).probedAt = this.#clock.now()
  }

  /** A request of this instance failed because of the node. */
  failed(node: string): void {
    const kept = this.#keep(node)
    const isTurn = kept.failedAt <= kept.answeredAt
    kept.failedAt = this.#clock.now()
    if (isTurn) this.#tell(node)
  }

  /** For other instances: a number by node that grows when the node answers again. Empty when no node was asked lately. */
  windows(): Readonly<Record<string, number>> {
    const since = this.#clock.now() - forgottenMs
    const told: Record<string, number> = {}
    for (const [node, { windows, windowEnds }] of this.#kept)
      if (windows > 0 && windowEnds > since) told[node] = windows
    return told
  }

  /** Forgets a node that left the fleet. */
  forget(node: string): void {
    this.#kept.delete(node)
  }

  /** Calls `listener` when requests to a node begin to be answered, or to fail. */
  onTurn(listener: (node: string) => void): void {
    this.#listeners.push(listener)
  }

  #keep(node: string): Kept {
    const known = this.#kept.get(node)
    if (known) return known
    const fresh = { ...never, windows: 0, windowEnds: ages, isAwaited: false }
    this.#kept.set(node, fresh)
    return fresh
  }

  #tell(node: string): void {
    for (const listener of this.#listeners) listener(node)
  }
}
