import type { Clock } from '../shared/clock.ts'

interface LatenessLimitOptions {
  readonly clock: Clock
  /** Called each time when it was late too often. */
  readonly exceeded: () => void
}

/** Too often: probes were lost to lateness of this process in so many of the last seconds, over at least such a time. */
const seconds = 3
const ofLastMs = 20_000
const overMs = 8000

/** Counts the times at which probes found nothing because this process itself was late. */
export class LatenessLimit {
  readonly #options: LatenessLimitOptions
  /** Seconds in which it was late, each once. */
  #late: number[] = []

  constructor(options: LatenessLimitOptions) {
    this.#options = options
  }

  /** A probe found nothing. */
  note(): void {
    const now = this.#options.clock.now()
    const second = Math.floor(now / 1000)
    this.#late = this.#late.filter((each) => each * 1000 > now - ofLastMs && each !== second)
    this.#late.push(second)
    const [first = second] = this.#late
    if (this.#late.length < seconds || (second - first) * 1000 < overMs) return
    this.#late = []
    this.#options.exceeded()
  }
}
