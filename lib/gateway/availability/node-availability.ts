import type { Config } from '../../fleet/config.ts'
import {
  type AvailabilityBarrier,
  alwaysAvailable,
  type NodeAvailability,
} from '../../scheduler/fleet/availability.ts'
import { Backoff } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Random } from '../../shared/random.ts'
import { BackPressure } from './back-pressure.ts'
import { type BreakerState, CircuitBreaker } from './circuit-breaker.ts'
import { SlowStart } from './slow-start.ts'

/** Milliseconds for which a model that failed on a node is blocked there (docs/ollama.md#answers). */
const blockMs = 30_000

interface NodeAvailabilityOptions {
  readonly settings: Config['breaker']
  readonly clock: Clock
  readonly random: Random
  /** Slots per model of the node. */
  readonly slots: () => number
  /** Called when more or fewer requests may pass than before. */
  readonly changed: () => void
  readonly onBreakerState: (state: BreakerState) => void
  /** See CircuitBreaker. */
  readonly onResult: (isGood: boolean) => void
  /** Called when a request passes an open breaker, because too few nodes would be left otherwise. */
  readonly onPanic: () => void
}

/** Which requests may go to one node now: breaker, back-pressure, slow start and blocked models together. */
export class UpstreamAvailability implements NodeAvailability {
  readonly breaker: CircuitBreaker
  readonly #backPressure: BackPressure
  readonly #slowStart: SlowStart
  readonly #options: NodeAvailabilityOptions
  /** Blocked models, with the function that cancels the end of the block. */
  readonly #blocked = new Map<string, () => void>()
  #isFrozen = false
  #isStopped = false

  constructor(options: NodeAvailabilityOptions) {
    const { settings, clock, random, slots, changed } = options
    this.#options = options
    this.#slowStart = new SlowStart({ clock, stepMs: settings.slow_start, full: slots, stepped: changed })
    this.#backPressure = new BackPressure({
      clock,
      backoff: new Backoff({ baseMs: settings.reset, maxMs: settings.max_reset, random }),
      resumed: changed,
      relieved: () => this.warmUp(),
    })
    this.breaker = new CircuitBreaker({
      settings,
      clock,
      random,
      onState: (state) => this.#breakerMoved(state),
      onSuccess: () => this.#backPressure.recordSuccess(),
      onResult: options.onResult,
    })
  }

  /** Availability for one model: a blocked model counts as ejected. */
  forModel(model: string): NodeAvailability {
    if (!this.#blocked.has(model) || this.barrier !== null) return this
    const reserve = () => {
      this.#options.onPanic()
      this.reserve()
    }
    return { barrier: 'ejected', limit: this.limit, isTrial: this.isTrial, reserve }
  }

  get barrier(): AvailabilityBarrier | null {
    const { breaker } = this
    const isOpen = breaker.state === 'open'
    if (isOpen && breaker.cause === 'refused') return 'refused'
    if (this.#isFrozen) return 'frozen'
    if (!this.#backPressure.admits) return 'busy'
    if (breaker.admits) return null
    return isOpen ? 'ejected' : 'trial'
  }

  get isTrial(): boolean {
    const isUnproven = this.breaker.state === 'half-open' || !this.#backPressure.isFree
    return isUnproven && this.barrier === null
  }

  /** Whether nothing restricts the node, and passing requests need not be recorded. */
  get isOpen(): boolean {
    if (this.#isFrozen || this.limit !== alwaysAvailable.limit) return false
    return this.breaker.state === 'closed' && this.#backPressure.isFree && this.#blocked.size === 0
  }

  get limit(): number {
    return this.#slowStart.allowed
  }

  reserve(): void {
    if (this.barrier === 'ejected') this.#options.onPanic()
    this.breaker.reserve()
    this.#backPressure.reserve()
  }

  /** The node responded that it is busy: see BackPressure. */
  busy(retryAfterMs = 0): void {
    if (this.#isStopped) return
    this.breaker.markHealthy()
    this.#backPressure.busy(retryAfterMs)
    this.#options.changed()
  }

  /** Blocks a model that is not on the node, or that has a dying runner there. */
  blockModel(model: string): void {
    if (this.#isStopped) return
    this.#blocked.get(model)?.()
    const lift = () => {
      this.#blocked.delete(model)
      this.#options.changed()
    }
    this.#blocked.set(model, this.#options.clock.after(blockMs, lift))
    this.#options.changed()
  }

  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** The node responds to nothing, or does again. Checks find that out, without requests. */
  freeze(isFrozen: boolean): void {
    if (this.#isStopped || this.#isFrozen === isFrozen) return
    this.#isFrozen = isFrozen
    if (isFrozen) this.#options.onResult(false)
    this.#options.changed()
  }

  /** Begins a slow start of a node that is back. */
  warmUp(): void {
    this.#slowStart.begin()
    this.#options.changed()
  }

  /** Ends all timers. For a node that has left the fleet. */
  stop(): void {
    this.#isStopped = true
    this.breaker.stop()
    this.#backPressure.stop()
    this.#slowStart.stop()
    for (const cancel of this.#blocked.values()) cancel()
  }

  #breakerMoved(state: BreakerState): void {
    if (state === 'closed') this.#slowStart.begin()
    this.#options.onBreakerState(state)
    this.#options.changed()
  }
}
