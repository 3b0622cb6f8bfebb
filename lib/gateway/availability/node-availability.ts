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
const barMs = 30_000

interface NodePassageOptions {
  readonly settings: Config['breaker']
  readonly clock: Clock
  readonly random: Random
  /** Slots per model of the node. */
  readonly slots: () => number
  /** More or less may pass than before. */
  readonly changed: () => void
  readonly moved: (state: BreakerState) => void
  /** See Breaker. */
  readonly told: (isGood: boolean) => void
  /** A request passes an open breaker, because too few nodes would be left otherwise. */
  readonly panicked: () => void
}

/** What may go to one node now: breaker, back-pressure and slow start together. */
export class UpstreamAvailability implements NodeAvailability {
  readonly breaker: CircuitBreaker
  readonly #backPressure: BackPressure
  readonly #slowStart: SlowStart
  readonly #options: NodePassageOptions
  /** Models that are not asked for here, and what lifts their bar. */
  readonly #barred = new Map<string, () => void>()
  #isFrozen = false
  #ended = false

  constructor(options: NodePassageOptions) {
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
      changed: (state) => this.#breakerMoved(state),
      answered: () => this.#backPressure.good(),
      told: options.told,
    })
  }

  /** The availability for one model: what fails by itself is ejected by itself. */
  of(model: string): NodeAvailability {
    if (!this.#barred.has(model) || this.barrier !== null) return this
    const reserve = () => {
      this.#options.panicked()
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
    const isUnproven = this.breaker.state === 'half-open' || !this.#backPressure.isOver
    return isUnproven && this.barrier === null
  }

  /** Whether it is as open as can be, and nothing needs to be told of requests that pass. */
  get isOpen(): boolean {
    if (this.#isFrozen || this.limit !== alwaysAvailable.limit) return false
    return this.breaker.state === 'closed' && this.#backPressure.isOver && this.#barred.size === 0
  }

  get limit(): number {
    return this.#slowStart.allowed
  }

  reserve(): void {
    if (this.barrier === 'ejected') this.#options.panicked()
    this.breaker.claim()
    this.#backPressure.claim()
  }

  /** The node said that it is busy: see BackPressure. */
  busy(retryAfterMs = 0): void {
    if (this.#ended) return
    this.breaker.vouch()
    this.#backPressure.busy(retryAfterMs)
    this.#options.changed()
  }

  /** This model is not on the node, or its runner dies there: only it is kept away for a while. */
  bar(model: string): void {
    if (this.#ended) return
    this.#barred.get(model)?.()
    const lift = () => {
      this.#barred.delete(model)
      this.#options.changed()
    }
    this.#barred.set(model, this.#options.clock.after(barMs, lift))
    this.#options.changed()
  }

  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** The node answers nothing at all, or does again: a look at it tells, no request has to. */
  freeze(isFrozen: boolean): void {
    if (this.#ended || this.#isFrozen === isFrozen) return
    this.#isFrozen = isFrozen
    if (isFrozen) this.#options.told(false)
    this.#options.changed()
  }

  /** The node is back: few requests first. */
  warmUp(): void {
    this.#slowStart.begin()
    this.#options.changed()
  }

  /** Ends every timer; for a node that left the fleet. */
  end(): void {
    this.#ended = true
    this.breaker.shutdown()
    this.#backPressure.stop()
    this.#slowStart.stop()
    for (const cancel of this.#barred.values()) cancel()
  }

  #breakerMoved(state: BreakerState): void {
    if (state === 'closed') this.#slowStart.begin()
    this.#options.moved(state)
    this.#options.changed()
  }
}
