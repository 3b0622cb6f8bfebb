import { EventEmitter } from 'node:events'
import CircuitBreaker from 'opossum'
import type { Clock } from '../../shared/clock.ts'

/** How far back failures count. */
const windowMs = 30_000
const buckets = 10
const bucketMs = windowMs / buckets

/** Where a request was counted. */
export interface WindowBucket {
  fires: number
}

interface FailureWindowOptions {
  /** Requests within the window before it may trip; more than half of them must have failed. */
  readonly failures: number
  readonly clock: Clock
  readonly tripped: () => void
}

/**
 * opossum as the judge of the recent requests only, fed with results that are known already. Fed with the requests
 * themselves it counts their start and their end in different windows, closes on the late success of an old call, and
 * stays half-open for ever behind a probe that hangs (docs/reliability.md#opossum, 1 to 4).
 */
export class FailureWindow {
  readonly #circuit: CircuitBreaker<[boolean], void>
  readonly #clock: Clock
  /** Turns opossum's window, when somebody looks: a timer per node would do nothing else. */
  readonly #rotation = new EventEmitter()
  #turnedAt: number

  constructor({ failures, clock, tripped }: FailureWindowOptions) {
    this.#clock = clock
    this.#turnedAt = clock.now()
    this.#circuit = new CircuitBreaker(report, {
      timeout: false,
      volumeThreshold: failures,
      errorThresholdPercentage: 50,
      rollingCountTimeout: windowMs,
      rollingCountBuckets: buckets,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      rotateBucketController: this.#rotation,
    })
    this.#circuit.on('open', tripped)
  }

  /** What `fire` emits of a success, which is what its statistics count, without its promises: nearly every request. */
  recordSuccess(): WindowBucket | undefined {
    this.#turn()
    this.#circuit.emit('fire')
    this.#circuit.emit('success', undefined, 0)
    return this.#circuit.status.window[0]
  }

  /** @param instead where the same request was counted when its answer began well: one request counts once. */
  recordFailure(instead?: WindowBucket): void {
    this.#turn()
    if (instead) instead.fires--
    this.#circuit.fire(false).catch(() => {}) // the failure is its news
  }

  /** Ends the timer with which opossum would try again: that is the breaker's part. */
  stop(): void {
    this.#circuit.shutdown()
  }

  #turn(): void {
    const turns = Math.floor((this.#clock.now() - this.#turnedAt) / bucketMs)
    this.#turnedAt += turns * bucketMs
    for (let turn = 0; turn < Math.min(turns, buckets); turn++) this.#rotation.emit('rotate')
  }
}

async function report(good: boolean): Promise<void> {
  if (!good) throw new Error('a request to the node failed')
}
