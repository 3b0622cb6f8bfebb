import type { Clock } from '../shared/clock.ts'

/** What this instance met at one node last, in monotonic milliseconds; -Infinity: never. */
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
  /** How many of the windows below had an answer, and when the last one ends. */
  windows: number
  windowEnds: number
  /** The listeners are to be told of the next answer, also if the one before was good. */
  isAwaited: boolean
}

const ages = Number.NEGATIVE_INFINITY
const never: Contact = { answeredAt: ages, probedAt: ages, failedAt: ages }
/** Milliseconds in which any number of answers of a node count once: other instances are told of it at most as often. */
const windowMs = 5000
/** Milliseconds after which others are not told any more of a node that has not answered since. */
const forgottenMs = 60_000

/**
 * What this instance learns of the nodes from its own traffic: the evidence that advice of a leader is held against. Written
 * by the gateway with every outcome and by probes, read by the control side.
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

  /** A request of this instance was answered, by whatever the node says to work that it does. */
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

  /** Has the listeners told of the next answer of a node. */
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

  /** For other instances: a number by node that moves when the node has answered again. Empty when nothing was asked of late. */
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
