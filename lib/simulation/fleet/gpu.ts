import type { Timeline } from './timeline.ts'

/** A stream is slower by so much for each other one that its runner decodes (docs/routing.md#results). */
export const streamPenalty = 0.15
/** What is left to the decodes of a runner while it reads a prompt. */
const decodeShareDuringPrefill = 0.35

/** One request on a runner: first its prompt is read, then tokens are written. */
export interface Stream {
  /** Which runner it is on. */
  readonly runner: string
  /** Tokens per second that the runner reads, and one stream of it writes, with the GPU to itself. */
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
 * The GPU of one node, shared: busy runners get equal parts of it, prompts of one runner share that runner's part, and
 * decodes slow each other down. Speeds change whenever a stream comes, goes or turns from reading to writing; only then
 * is it worked out how far everybody is.
 */
export class SharedGpu {
  readonly #timeline: Timeline
  readonly #streams = new Map<Stream, number>()
  #speed = 1
  #settledAt = 0
  #cancelNext: () => void = () => {}

  constructor(timeline: Timeline) {
    this.#timeline = timeline
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

  /** From now on everything takes `1 / factor` as long. */
  setSpeed(factor: number): void {
    this.settle()
    this.#speed = factor
    this.#plan()
  }

  /** Brings the streams' tokens up to date. */
  settle(): void {
    const { now } = this.#timeline
    const seconds = now - this.#settledAt
    this.#settledAt = now
    if (seconds === 0) return
    for (const [stream, rate] of this.#streams) {
      if (stream.isReading) stream.newTokens -= rate * seconds
      else stream.outputTokens -= rate * seconds
    }
  }

  /** Sets everybody's speed, and when the next of them gets where it is going. */
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
    this.#cancelNext = stream ? this.#timeline.after(soonest, () => this.#arrive(stream)) : () => {}
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
  const alone = stream.decode / (1 + streamPenalty * (decoding - 1))
  return prefilling > 0 ? alone * decodeShareDuringPrefill : alone
}
