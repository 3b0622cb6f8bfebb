import type { Ask } from '../fleet/ask.ts'
import type { Config } from '../fleet/config.ts'
import { rankOf } from './rank.ts'

/** Something that waits its turn. */
interface Waiting {
  readonly ask: Ask
}

/**
 * The waiting requests: one line per model, since a slot that comes back is of use to its model only. Invariant: as it is
 * kept, `arrivedAt` never decreases in a line from head to tail; classes count when it is read, since waiting lifts.
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

  /** Who waits for a model at `now`, by class, then arrival. A copy: safe to walk while items leave. */
  line(model: string, classes: Config['classes'], now: number): readonly W[] {
    const line = this.#lines.get(model) ?? []
    return line.toSorted((a, b) => rankOf(a.ask, classes, now) - rankOf(b.ask, classes, now))
  }

  /** How many wait, by the class they came with; classes nobody waits in are absent. */
  byClass(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (const line of this.#lines.values())
      for (const { ask } of line) counts.set(ask.class, (counts.get(ask.class) ?? 0) + 1)
    return counts
  }
}
