import type { Ask } from '../fleet/ask.ts'

/** Something that waits its turn. */
interface Waiting {
  readonly ask: Ask
}

/**
 * The waiting requests: one line per model, since a slot that comes back is of use to its model only. Invariant: in a line
 * `arrivedAt` never decreases from head to tail.
 */
export class WaitQueue<W extends Waiting> {
  readonly #lines = new Map<string, W[]>()
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The models somebody waits for. */
  models(): readonly string[] {
    return [...this.#lines.keys()]
  }

  /** Almost always appends: only a retry was here before others. */
  add(item: W): void {
    const line = this.#lines.get(item.ask.model) ?? []
    this.#lines.set(item.ask.model, line)
    let at = line.length
    while (at > 0 && (line[at - 1]?.ask.arrivedAt ?? 0) > item.ask.arrivedAt) at--
    line.splice(at, 0, item)
    this.#length++
  }

  /** Whether it was still waiting. */
  remove(item: W): boolean {
    const line = this.#lines.get(item.ask.model) ?? []
    const at = line.indexOf(item)
    if (at < 0) return false
    line.splice(at, 1)
    if (line.length === 0) this.#lines.delete(item.ask.model)
    this.#length--
    return true
  }

  /** Who waits for a model, in order, as a copy: safe to walk while items leave. */
  line(model: string): readonly W[] {
    return [...(this.#lines.get(model) ?? [])]
  }
}
