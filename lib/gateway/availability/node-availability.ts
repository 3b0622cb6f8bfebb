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

/** Milliseconds for which a model that failed on a node, by itself, is not asked for there (docs/ollama.md#answers). */
const blockMs = 30_000

interface NodeAvailabilityOptions {
  readonly settings: Config['breaker']
  readonly clock: Clock
  readonly random: Random
  /** Slots per model of the node. */
  readonly slots: () => number
  /** More or less may pass than before. */
  readonly changed: () => void
  readonly onBreakerState: (state: BreakerState) => void
  /** See Breaker. */
  readonly onResult: (isGood: boolean) => void
  /** A request passes an open breaker, because too few nodes would be left otherwise. */
  readonly onPanic: () => void
}

/** What may go to one node now: breaker, back-pressure and slow start together. */
export class UpstreamAvailability implements NodeAvailability {
  readonly breaker: CircuitBreaker
  readonly #backPressure: BackPressure
  readonly #slowStart: SlowStart
  readonly #options: NodeAvailabilityOptions
  /** Models that are not asked for here, and what lifts their bar. */
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

  /** What may pass for one model: what fails by itself is ejected by itself. */
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

  /** Whether it is as open as can be, and nothing needs to be told of requests that pass. */
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

  /** The node said that it is busy: see BackPressure. */
  busy(retryAfterMs = 0): void {
    if (this.#isStopped) return
    this.breaker.markHealthy()
    this.#backPressure.busy(retryAfterMs)
    this.#options.changed()
  }

  /** This model is not on the node, or its runner dies there: only it is kept away for a while. */
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

  /** The node answers nothing at all, or does again: a look at it tells, no request has to. */
  freeze(isFrozen: boolean): void {
    if (this.#isStopped || this.#isFrozen === isFrozen) return
    this.#isFrozen = isFrozen
    if (isFrozen) this.#options.onResult(false)
    this.#options.changed()
  }

  /** The node is back: few requests first. */
  warmUp(): void {
    this.#slowStart.begin()
    this.#options.changed()
  }

  /** Ends every timer; for a node that left the fleet. */
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
