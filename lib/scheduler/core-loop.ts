import type { Elsewhere } from '../fleet/instance.ts'
import type { CurrentSnapshot, Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { Coalescer } from '../shared/coalesce.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Random } from '../shared/random.ts'
import { configured } from './configured.ts'
import { Core } from './core.ts'
import type { LoggedDecision } from './decision-log.ts'
import type { Effect, SchedulerEvent } from './events.ts'
import type { FleetAvailability } from './fleet/availability.ts'
import { FleetFacts } from './fleet/node-facts.ts'

interface CoreLoopOptions {
  readonly snapshot: CurrentSnapshot
  readonly upstreams: FleetAvailability
  readonly clock: Clock
  readonly random: Random
  readonly metrics: Pick<Metrics, 'predictionError' | 'later'>
  /** What other instances do with the nodes, as far as this one knows; the same object while nothing changes. */
  readonly usedElsewhere: () => Elsewhere
  /** Whether this instance leads. */
  readonly leads: () => boolean
  /** Carries out a decision of the core. */
  readonly execute: (effect: Effect) => void
  /** Called after each scheduling pass. */
  readonly afterPass: () => void
  /** Called before each scheduling pass that the timer started. */
  readonly beforeTick: () => void
}

const turn = Promise.resolve()

/**
 * Feeds events to the core and runs one scheduling pass per turn of the event loop. Outside are milliseconds, inside
 * seconds: `now` converts.
 */
export class CoreLoop {
  readonly core: Core
  readonly #options: CoreLoopOptions
  readonly #facts: FleetFacts
  /** The snapshot that the core knows; null: breakers have changed since. */
  #shown: Snapshot | null = null
  #shownUse: Elsewhere | null = null
  #config: Snapshot['config']
  #isPassPlanned = false
  /** The only timer, for what time alone changes. It is set only while something waits. */
  readonly #tick: Coalescer

  constructor(options: CoreLoopOptions) {
    const { snapshot, random } = options
    this.#options = options
    this.#tick = new Coalescer(options.clock, () => this.#ticked())
    this.#facts = new FleetFacts(options)
    this.#config = snapshot.get().config
    const { policy } = this.#config.routing
    const begun = (entry: LoggedDecision) => observeError(options.metrics, entry)
    this.core = new Core({ policy, parameters: configured(snapshot), random, begun })
  }

  /** Monotonic seconds. */
  get now(): number {
    return this.#options.clock.now() / 1000
  }

  /** Call it when breakers, or what other instances do, have changed. */
  refresh(): void {
    this.#shown = null
    this.#planPass()
  }

  tell(event: SchedulerEvent): void {
    this.core.take(event, this.now)
    // With an empty queue there is nothing to decide, but a timer that is set must be cancelled.
    if (this.core.hasWork || this.#tick) this.#planPass()
  }

  /** Passes a changed fleet to the core. Call it before every question to the core. */
  syncFleet(): void {
    const snapshot = this.#options.snapshot.get()
    const used = this.#options.usedElsewhere()
    if (snapshot === this.#shown && used === this.#shownUse) return
    this.#shown = snapshot
    this.#shownUse = used
    const { config } = snapshot
    if (config !== this.#config) {
      this.#config = config
      this.core.usePolicy(config.routing.policy)
      this.core.reclassify(this.now)
    }
    this.core.take({ type: 'fleet', nodes: this.#facts.read(snapshot) }, this.now)
  }

  /** Coalesces: all events of one turn of the event loop share one pass. */
  #planPass(): void {
    if (this.#isPassPlanned) return
    this.#isPassPlanned = true
    // queueMicrotask would cost an async-hooks resource per call.
    void turn.then(() => this.#pass())
  }

  #pass(): void {
    this.#isPassPlanned = false
    this.syncFleet()
    const { now } = this
    for (const effect of this.core.pass(now)) this.#options.execute(effect)
    this.#options.afterPass()
    this.#setTick(now)
  }

  #setTick(now: number): void {
    const at = this.core.nextTickAt(now)
    if (at === null) this.#tick.cancel()
    else this.#tick.by(Math.max(Math.ceil(at * 1000), this.#options.clock.now() + 1))
  }

  #ticked(): void {
    this.#options.beforeTick()
    // What other instances run may have changed.
    this.refresh()
  }
}

/** Records the error of the predicted time to the first token. */
function observeError(metrics: CoreLoopOptions['metrics'], entry: LoggedDecision): void {
  if (entry.ttft === null || !entry.decision) return
  const late = entry.ttft - entry.decision.ttft
  if (!Number.isFinite(late)) return // the start was unknown
  const direction = late > 0 ? 'late' : 'early'
  metrics.later(() => metrics.predictionError.observe({ direction }, Math.abs(late)))
}
