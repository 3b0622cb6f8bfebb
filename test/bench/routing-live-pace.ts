import type { Timeline } from '../../lib/simulation/fleet/timeline.ts'

/** How often it is looked whether something is due. */
const stepMs = 1

/** Lets a timeline's seconds pass as real ones do, so many times as fast. */
export class Pace {
  readonly speed: number
  readonly #timeline: Timeline
  #startedAt = 0
  #steppedAt = 0
  #timer: NodeJS.Timeout | undefined
  #lags: number[] = []

  constructor(timeline: Timeline, speed: number) {
    this.#timeline = timeline
    this.speed = speed
  }

  /** Seconds of the timeline since the start, whatever is still to be done before. */
  get now(): number {
    return ((performance.now() - this.#startedAt) / 1000) * this.speed
  }

  /** By how many real milliseconds this process was late at each step: what it times is wrong by as much. */
  get lags(): readonly number[] {
    return this.#lags
  }

  start(): void {
    this.#startedAt = performance.now()
    this.#steppedAt = this.#startedAt
    this.#lags = []
    this.#timer = setInterval(() => this.#step(), stepMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Does something now, after all that was due before. */
  act(action: () => void): void {
    let isDone = false
    this.#timeline.at(this.now, () => {
      isDone = true
      action()
    })
    this.#timeline.run(() => !isDone)
  }

  #step(): void {
    const now = performance.now()
    this.#lags.push(now - this.#steppedAt - stepMs)
    this.#steppedAt = now
    this.act(() => {})
  }
}
