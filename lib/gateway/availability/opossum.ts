import { EventEmitter } from 'node:events'
import CircuitBreaker from 'opossum'
import type { Clock } from '../../shared/clock.ts'

/** Failures count for this long. */
const windowMs = 30_000
const buckets = 10
const bucketMs = windowMs / buckets

/** The bucket in which a request was counted. */
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
 * opossum as a window of recent results, which are known when they are counted. Fed with the requests themselves, opossum
 * counts their start and their end in different windows, closes on the late success of an old call, and stays half-open for
 * ever behind a probe that hangs (docs/decisions/0002-opossum-as-a-window.md). No other file imports the package.
 */
export class FailureWindow {
  readonly #circuit: CircuitBreaker<[boolean], void>
  readonly #clock: Clock
  /** Rotates opossum's window at each use, which saves a timer per node. */
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

  /** Emits what `fire` emits for a success, without its promises: nearly every request succeeds. */
  recordSuccess(): WindowBucket | undefined {
    this.#turn()
    this.#circuit.emit('fire')
    this.#circuit.emit('success', undefined, 0)
    return this.#circuit.status.window[0]
  }

  /** @param instead the bucket in which the same request was counted at its head: one request counts once. */
  recordFailure(instead?: WindowBucket): void {
    this.#turn()
    if (instead) instead.fires--
    this.#circuit.fire(false).catch(() => {}) // the rejection is what it counts
  }

  /** Ends opossum's timer for its own half-open state, which the breaker decides. */
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
