import TinyQueue from 'tinyqueue'
import type { ModelClock } from '../ollama-model/model-runner.ts'

interface Entry {
  readonly at: number
  /** Breaks ties: the action planned first runs first, so that a seed decides everything. */
  readonly order: number
  /** Null: cancelled. */
  action: (() => void) | null
}

/** Virtual seconds: actions happen in the order of their times, and no time passes between them. */
export class Timeline {
  readonly #entries = new TinyQueue<Entry>([], inOrder)
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
    this.#entries.push(entry)
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
      const next = this.#entries.pop()
      if (!next) return
      if (!next.action) continue
      this.#now = next.at
      next.action()
    }
  }
}

function inOrder(a: Entry, b: Entry): number {
  return a.at - b.at || a.order - b.order
}
