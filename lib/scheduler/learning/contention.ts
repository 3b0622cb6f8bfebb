/** GPU time of a runner, in sums that only grow: a request had the difference of two readings. */
export interface GpuTime {
  /** Monotonic seconds of the reading. */
  readonly at: number
  /** Seconds of the GPU that the runner had. */
  readonly had: number
  /** Those seconds in which it read a prompt. */
  readonly reading: number
  /** Those seconds that each prompt had, if prompts share the runner equally. */
  readonly perPrompt: number
  /** Seconds of the GPU, times the writing streams beyond the first. */
  readonly coRunning: number
}

/** The GPU of a node, which its busy runners share equally (docs/routing.md#learning). */
export class GpuClock {
  #busy = 0
  #each = 0
  #at = 0

  /** Runners with requests in flight. */
  get busy(): number {
    return this.#busy
  }

  /** Seconds of the GPU that an always busy runner has had by now. */
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

/** Sums up what one runner does. Readers and writers change only when a request begins, writes or ends. */
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

  /** Requests whose prompts are being read. */
  get readers(): number {
    return this.#readers
  }

  /** @param reads it reads its prompt until `promptRead`; otherwise it counts as writing from the start. */
  began(reads: boolean, now: number): void {
    if (this.#readers + this.#writers === 0) this.#gpu.joined(now)
    this.#settle(now)
    if (reads) this.#readers++
    else this.#writers++
  }

  /** A request has read its prompt and begins to write. */
  promptRead(now: number): void {
    this.#settle(now)
    this.#readers--
    this.#writers++
  }

  /** @param reads it was still reading. */
  ended(reads: boolean, now: number): void {
    this.#settle(now)
    if (reads) this.#readers--
    else this.#writers--
    if (this.#readers + this.#writers === 0) this.#gpu.left(now)
  }

  /** The sums as of now. */
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

/** What a request had of the GPU, and how many others shared it, on average over a period. */
export interface Contention {
  /** Its runner's share of the GPU. */
  readonly share: number
  /** Its own share of the GPU, if it read its prompt. */
  readonly promptShare: number
  /** Other writing streams of its runner, if it wrote. */
  readonly others: number
  /** Share of the period in which its runner read a prompt. */
  readonly held: number
}

/** The contention between two readings; NaN when no time passed. */
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
