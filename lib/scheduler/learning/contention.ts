/** What a runner had of its GPU, in sums that only grow: what a request had is the difference of two readings. */
export interface GpuTime {
  /** Monotonic seconds of the reading. */
  readonly at: number
  /** Seconds of the GPU that the runner had. */
  readonly had: number
  /** Those of them in which it read a prompt. */
  readonly reading: number
  /** Those of them that each prompt had, if the prompts read at one time had equal parts. */
  readonly perPrompt: number
  /** Seconds of the GPU, times the streams that wrote then, but for one. */
  readonly coRunning: number
}

/** The GPU of a node, of which its busy runners have equal parts (docs/routing.md#learning). */
export class GpuClock {
  #busy = 0
  #each = 0
  #at = 0

  /** Runners with requests running. */
  get busy(): number {
    return this.#busy
  }

  /** Seconds of the GPU that a runner had by now which was always busy. */
  each(now: number): number {
    if (this.#busy > 0) this.#each += Math.max(0, now - this.#at) / this.#busy
    this.#at = now
    return this.#each
  }

  /** A runner becomes busy. */
  joined(now: number): void {
    this.each(now)
    this.#busy++
  }

  /** A runner becomes idle. */
  left(now: number): void {
    this.each(now)
    this.#busy--
  }
}

/** Follows what one runner does: who reads and who writes changes only when a request begins, writes or ends. */
export class RunnerTime {
  readonly #gpu: GpuClock
  #readers = 0
  #writers = 0
  /** The GPU's own sum at the last change. */
  #each = 0
  #had = 0
  #reading = 0
  #perPrompt = 0
  #coRunning = 0

  constructor(gpu: GpuClock) {
    this.#gpu = gpu
  }

  /** Prompts being read. */
  get readers(): number {
    return this.#readers
  }

  /** @param reads its prompt first, and `turned` will tell when that is over; otherwise it counts as writing from the start. */
  began(reads: boolean, now: number): void {
    if (this.#readers + this.#writers === 0) this.#gpu.joined(now)
    this.#settle(now)
    if (reads) this.#readers++
    else this.#writers++
  }

  /** A prompt is read, and its answer begins. */
  turned(now: number): void {
    this.#settle(now)
    this.#readers--
    this.#writers++
  }

  /** @param reads it still did. */
  ended(reads: boolean, now: number): void {
    this.#settle(now)
    if (reads) this.#readers--
    else this.#writers--
    if (this.#readers + this.#writers === 0) this.#gpu.left(now)
  }

  /** A reading. */
  read(now: number): GpuTime {
    this.#settle(now)
    return {
      at: now,
      had: this.#had,
      reading: this.#reading,
      perPrompt: this.#perPrompt,
      coRunning: this.#coRunning,
    }
  }

  #settle(now: number): void {
    const each = this.#gpu.each(now)
    const had = each - this.#each
    this.#each = each
    if (this.#readers + this.#writers === 0) return
    this.#had += had
    this.#coRunning += had * Math.max(0, this.#writers - 1)
    if (this.#readers === 0) return
    this.#reading += had
    this.#perPrompt += had / this.#readers
  }
}

/** What a request had of the GPU, and who was beside it, on average over a time. */
export interface Contention {
  /** Its runner's share of the GPU. */
  readonly share: number
  /** Its own share of the GPU, if it read its prompt. */
  readonly promptShare: number
  /** Other streams of its runner that wrote, if it wrote. */
  readonly others: number
  /** Share of the time in which its runner read a prompt. */
  readonly held: number
}

/** Between two readings; not a number where no time was between them. */
export function contentionOf(from: GpuTime, to: GpuTime): Contention {
  const seconds = to.at - from.at
  const had = to.had - from.had
  return {
    share: had / seconds,
    promptShare: (to.perPrompt - from.perPrompt) / seconds,
    others: (to.coRunning - from.coRunning) / had,
    held: (to.reading - from.reading) / had,
  }
}
