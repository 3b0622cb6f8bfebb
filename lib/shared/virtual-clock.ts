import { type Clock, sleepOn } from './clock.ts'

interface Task {
  readonly at: number
  readonly run: () => void
}

/** A clock that moves only when told to. Timers fire in the order of (time, insertion). */
export class VirtualClock implements Clock {
  #now = 0
  #tasks: Task[] = []
  #epoch: number

  /** @param epoch the date at virtual time 0. */
  constructor(epoch: Date = new Date('2026-01-01T00:00:00Z')) {
    this.#epoch = epoch.getTime()
  }

  now(): number {
    return this.#now
  }

  date(): Date {
    return new Date(this.#epoch + this.#now)
  }

  /** Sets the wall clock on by `ms`, or back; monotonic time does not pass. */
  jump(ms: number): void {
    this.#epoch += ms
  }

  after(ms: number, run: () => void): () => void {
    const task = { at: this.#now + Math.max(0, ms), run }
    const later = this.#tasks.findIndex((other) => other.at > task.at)
    this.#tasks.splice(later < 0 ? this.#tasks.length : later, 0, task)
    return () => {
      const index = this.#tasks.indexOf(task)
      if (index >= 0) this.#tasks.splice(index, 1)
    }
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  /** When the next timer fires, in clock milliseconds, or null when none is set. */
  nextTimerAt(): number | null {
    return this.#tasks[0]?.at ?? null
  }

  /** Moves time forward by `ms`, firing every timer on the way; the event loop turns after each. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms
    await settle()
    for (let task = this.#tasks[0]; task && task.at <= until; task = this.#tasks[0]) {
      this.#tasks.shift()
      this.#now = task.at
      task.run()
      await settle()
    }
    this.#now = until
  }

  /** Fires timers until none is left, at most `limit` of them. */
  async runUntilIdle(limit = 100_000): Promise<void> {
    await settle()
    for (let fired = 0; fired < limit; fired++) {
      const next = this.nextTimerAt()
      if (next === null) return
      await this.advance(next - this.#now)
    }
    throw new Error(`the virtual clock is still busy after ${limit} timers`)
  }
}

/** Two turns of the event loop: promise chains and socket callbacks started by a timer get to run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
}
