import { EventEmitter } from 'node:events'
import CircuitBreaker from 'opossum'
import type { Config } from '../fleet/config.ts'
import type { Dice } from '../shared/loop.ts'

/** The passive guard of a node is closed (takes requests), open (takes none) or half-open (takes one, on trial). */
export type BreakerState = 'closed' | 'open' | 'half-open'

/**
 * What a try at a node says of its health. `refused`: nobody listens there, proof enough at once. `neutral`: nothing,
 * because the caller left or the node was merely busy.
 */
export type HealthSign = 'good' | 'bad' | 'refused' | 'neutral'

const windowMs = 30_000
const buckets = 10

/**
 * One shared beat turns the statistics windows of all breakers: each would own two intervals otherwise.
 * A listener per breaker is meant, hence no limit.
 */
const rotation = new EventEmitter().setMaxListeners(0)
setInterval(() => rotation.emit('rotate'), windowMs / buckets).unref()

/** A request on its way, as the breaker sees it; told once what its response headers said. */
export interface Trial {
  settle(sign: HealthSign): void
}

/**
 * opossum as the state machine only, fed with results that are known already. Fed with the requests themselves it counts
 * their start and their end in different windows, closes on the late success of an old call, and stays half-open for
 * ever behind a probe that hangs (sheet reliability-security.md D3, traps 1-4).
 */
export class Breaker {
  readonly #circuit: CircuitBreaker<[boolean], void>
  /** Grows with every change of state: signs from before it say nothing about the node now. */
  #epoch = 0
  #trialUnderWay = false

  constructor(options: Config['breaker'], dice: Dice, changed: (state: BreakerState) => void) {
    this.#circuit = new CircuitBreaker(report, {
      timeout: false,
      volumeThreshold: options.failures,
      errorThresholdPercentage: 50,
      rollingCountTimeout: windowMs,
      rollingCountBuckets: buckets,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      rotateBucketController: rotation,
      // Jitter: the instances' breakers must not all try a recovering node at the same moment.
      resetTimeout: options.reset * (0.8 + 0.4 * dice()),
    })
    const moved = () => {
      this.#epoch++
      this.#trialUnderWay = false
      changed(this.state)
    }
    this.#circuit.on('open', moved)
    this.#circuit.on('halfOpen', moved)
    this.#circuit.on('close', moved)
  }

  get state(): BreakerState {
    if (this.#circuit.halfOpen) return 'half-open'
    return this.#circuit.opened ? 'open' : 'closed'
  }

  /** Whether a request may go to the node now. */
  get admits(): boolean {
    return this.state === 'closed' || (this.state === 'half-open' && !this.#trialUnderWay)
  }

  /** A request is about to go to the node. The trial must be settled, if only as `neutral`. */
  begin(): Trial {
    const epoch = this.#epoch
    const onTrial = this.state === 'half-open'
    if (onTrial) this.#trialUnderWay = true
    let settled = false
    return {
      settle: (sign) => {
        if (settled || epoch !== this.#epoch) return
        settled = true
        this.#learn(sign, onTrial)
      },
    }
  }

  /** Ends its timers; for a node that left the fleet. */
  shutdown(): void {
    this.#circuit.shutdown()
  }

  #learn(sign: HealthSign, onTrial: boolean): void {
    // A trial that says nothing leaves the node unproven: back to open, and another try after the reset time.
    if (sign === 'refused' || (onTrial && sign === 'neutral')) this.#circuit.open()
    else if (sign === 'bad' || onTrial)
      this.#circuit.fire(sign === 'good').catch(() => {}) // the failure is its news
    else if (sign === 'good') this.#countGood()
  }

  /** What `fire` emits of a success, which is what its statistics count, without its promises: nearly every request. */
  #countGood(): void {
    this.#circuit.emit('fire')
    this.#circuit.emit('success', undefined, 0)
  }
}

async function report(good: boolean): Promise<void> {
  if (!good) throw new Error('a request to the node failed')
}
