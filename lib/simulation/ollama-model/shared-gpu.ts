import { decodeSlowdown } from './decoding.ts'
import type { ModelClock } from './model-runner.ts'

/** Of each further stream that a runner decodes (docs/routing.md#results). */
export const streamPenalty = 0.15
/** Share of its speed at which a runner decodes while it reads a prompt. */
const decodeShareDuringPrefill = 0.35

/** One request on a runner: first its prompt is read, then its tokens are written. */
export interface Stream {
  /** The runner that computes it. */
  readonly runner: string
  /** Tokens per second that the runner reads, and that one stream writes, with the GPU to itself. */
  readonly prefill: number
  readonly decode: number
  /** Its prompt is still being read. */
  isReading: boolean
  /** Tokens still to read, and to write. */
  newTokens: number
  outputTokens: number
  onFirstToken(): void
  onDone(): void
}

interface Load {
  prefilling: number
  decoding: number
}

/**
 * The GPU of one node. Busy runners get equal parts of it, prompts of one runner share that runner's part, and its streams slow
 * each other down. Rates are constant between two events: a stream comes, goes, or turns from reading to writing. Only then
 * are the streams brought up to date.
 *
 * Nodes with sockets do not use it. They emit single tokens when these are due, their prompts are read in batches that other
 * prompts wait for, and one runner does not slow another: tests need durations that follow from one request.
 */
export class SharedGpu {
  readonly #clock: ModelClock
  readonly #streams = new Map<Stream, number>()
  #speed = 1
  #settledAt = 0
  #cancelNext: () => void = () => {}

  constructor(clock: ModelClock) {
    this.#clock = clock
  }

  add(stream: Stream): void {
    this.settle()
    this.#streams.set(stream, 0)
    this.#plan()
  }

  remove(stream: Stream): void {
    this.settle()
    this.#streams.delete(stream)
    this.#plan()
  }

  /** From now on every stream takes `1 / factor` of the time. */
  setSpeed(factor: number): void {
    this.settle()
    this.#speed = factor
    this.#plan()
  }

  /** Brings the streams' tokens up to date. */
  settle(): void {
    const now = this.#clock.now()
    const seconds = now - this.#settledAt
    this.#settledAt = now
    if (seconds === 0) return
    for (const [stream, rate] of this.#streams) {
      if (stream.isReading) stream.newTokens -= rate * seconds
      else stream.outputTokens -= rate * seconds
    }
  }

  /** Sets the rate of every stream, and plans the next end of a prompt or of a stream. */
  #plan(): void {
    this.#cancelNext()
    const loads = this.#loads()
    let next: Stream | null = null
    let soonest = Number.POSITIVE_INFINITY
    for (const stream of this.#streams.keys()) {
      const rate = (this.#speed / loads.size) * rateOf(stream, loads.get(stream.runner))
      this.#streams.set(stream, rate)
      const seconds = Math.max(0, stream.isReading ? stream.newTokens : stream.outputTokens) / rate
      if (seconds >= soonest) continue
      soonest = seconds
      next = stream
    }
    const stream = next
    this.#cancelNext = stream ? this.#clock.after(soonest, () => this.#arrive(stream)) : () => {}
  }

  #arrive(stream: Stream): void {
    this.settle()
    if (stream.isReading) {
      stream.isReading = false
      this.#plan()
      stream.onFirstToken()
    } else {
      this.#streams.delete(stream)
      this.#plan()
      stream.onDone()
    }
  }

  #loads(): Map<string, Load> {
    const loads = new Map<string, Load>()
    for (const { runner, isReading } of this.#streams.keys()) {
      const load = loads.get(runner) ?? { prefilling: 0, decoding: 0 }
      loads.set(runner, load)
      if (isReading) load.prefilling++
      else load.decoding++
    }
    return loads
  }
}

function rateOf(stream: Stream, load: Load | undefined): number {
  const { prefilling, decoding } = load ?? { prefilling: 1, decoding: 1 }
  if (stream.isReading) return stream.prefill / prefilling
  const alone = stream.decode / decodeSlowdown(decoding, streamPenalty)
  return prefilling > 0 ? alone * decodeShareDuringPrefill : alone
}
