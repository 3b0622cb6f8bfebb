import type { Clock } from '../shared/clock.ts'

interface LatenessLimitOptions {
  readonly clock: Clock
  /** Called each time when it was late too often. */
  readonly exceeded: () => void
}

/** Too often: probes were lost to lateness of this process in so many of the last seconds. */
const seconds = 4
const ofLastMs = 15_000

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
    if (this.#late.length < seconds) return
    this.#late = []
    this.#options.exceeded()
  }
}
