import type { Clock } from '../../shared/clock.ts'

interface LatenessLimitOptions {
  readonly clock: Clock
  /** Called each time the limit is exceeded. */
  readonly exceeded: () => void
}

/**
 * The limit: probes were lost in this many distinct seconds of the last 20 s, the first and last of them 8 s apart or
 * more.
 */
const seconds = 3
const ofLastMs = 20_000
const overMs = 8000

/** Counts the seconds in which a probe was lost because this process itself was late. */
export class LatenessLimit {
  readonly #options: LatenessLimitOptions
  /** The seconds in which a probe was lost, each once. */
  #late: number[] = []

  constructor(options: LatenessLimitOptions) {
    this.#options = options
  }

  /** A probe was lost. */
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
