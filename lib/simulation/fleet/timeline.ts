import type { ModelClock } from '../ollama-model/model-runner.ts'

interface Entry {
  readonly at: number
  /** Breaks ties: the action planned first runs first, so that a seed decides everything. */
  readonly order: number
  /** Null: cancelled. */
  action: (() => void) | null
}

/** Virtual seconds: actions happen in the order of their times, and no time passes between them (a binary heap). */
export class Timeline {
  readonly #heap: Entry[] = []
  #now = 0
  #planned = 0

  /** Seconds since the rehearsal began. */
  get now(): number {
    return this.#now
  }

  /** The same time as a clock of seconds. */
  get clock(): ModelClock {
    return { now: () => this.#now, after: (seconds, action) => this.after(seconds, action) }
  }

  /** Plans an action; a past time means now. Returns the cancel function, safe to call at any time. */
  at(time: number, action: () => void): () => void {
    const entry: Entry = { at: Math.max(time, this.#now), order: this.#planned++, action }
    this.#rise(entry)
    return () => {
      entry.action = null
    }
  }

  /** Plans an action `seconds` from now. */
  after(seconds: number, action: () => void): () => void {
    return this.at(this.#now + seconds, action)
  }

  /** Lets time pass while `goesOn` and something is planned. */
  run(goesOn: () => boolean): void {
    while (goesOn()) {
      const next = this.#shift()
      if (!next) return
      if (!next.action) continue
      this.#now = next.at
      next.action()
    }
  }

  #rise(entry: Entry): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(entry)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent]
      if (!above || isBefore(above, entry)) break
      heap[at] = above
      at = parent
    }
    heap[at] = entry
  }

  #shift(): Entry | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (!first || !last || first === last) return first
    let at = 0
    for (;;) {
      const child = this.#earlierChild(at)
      const below = heap[child]
      if (!below || isBefore(last, below)) break
      heap[at] = below
      at = child
    }
    heap[at] = last
    return first
  }

  #earlierChild(at: number): number {
    const left = 2 * at + 1
    const [a, b] = [this.#heap[left], this.#heap[left + 1]]
    return a && b && isBefore(b, a) ? left + 1 : left
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at
}
