/** Something that waits its turn. */
interface Waiting {
  /** Monotonic milliseconds; a request sent on from a failed node keeps its first arrival and so its place. */
  readonly arrivedAt: number
}

/** The waiting requests, oldest arrival first. Invariant: `arrivedAt` never decreases from head to tail. */
export class WaitQueue<W extends Waiting> {
  readonly #items: W[] = []

  get length(): number {
    return this.#items.length
  }

  /** Almost always appends: only a retry was here before others. */
  add(item: W): void {
    let at = this.#items.length
    while (at > 0 && (this.#items[at - 1]?.arrivedAt ?? 0) > item.arrivedAt) at--
    this.#items.splice(at, 0, item)
  }

  /** Whether it was still waiting. */
  remove(item: W): boolean {
    const at = this.#items.indexOf(item)
    if (at >= 0) this.#items.splice(at, 1)
    return at >= 0
  }

  /** A copy in order, safe to walk while items leave. */
  inOrder(): readonly W[] {
    return [...this.#items]
  }
}
