import type { Config } from '../fleet/config.ts'
import type { Contacts } from '../fleet/contacts.ts'
import type { NodeSpec } from '../fleet/node.ts'
import type { Clock } from '../shared/clock.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import {
  examine,
  type Finding,
  isSluggish,
  isUnreached,
  unknownVitals,
  type Vitals,
  wantsConfirmation,
} from './health.ts'
import { type Look, Probe } from './probe.ts'
import { type Observation, sameObservation } from './statuses.ts'

interface ProberOptions {
  readonly name: string
  readonly spec: NodeSpec
  /** What an earlier leader saw: a new one goes on from there instead of doubting the whole fleet. */
  readonly known: Observation | null
  /** Read anew before each probe. */
  readonly probes: () => Config['probes']
  readonly clock: Clock
  readonly dice: Dice
  readonly metrics?: Metrics
  /** What answered requests say of the node; left out where none are served. */
  readonly evidence?: Evidence
  /** Called with each probe that failed for a reason of this instance's own. */
  readonly late?: () => void
  /** Called when the observation changed, or the node began or ceased to fail its probes. */
  readonly changed: () => void
}

/** What answered requests say of the nodes. */
export interface Evidence {
  /** Of this instance. */
  readonly contacts: Contacts
  /** When another instance told last that a node answers it, in monotonic milliseconds; null: never. */
  readonly peersReached: (node: string) => number | null
}

/** Milliseconds between a refused connection and the try that confirms it. */
const confirmMs = 100
/** So many times longer than a probe may take a slow node has to tell what models it has, and at most so many milliseconds. */
const patienceTimes = 10
const maxPatienceMs = 30_000

/** Watches one node for as long as this instance leads: probe, judge, remember. */
export class Prober {
  readonly #options: ProberOptions
  readonly #probe: Probe
  readonly #loop: Loop
  #vitals: Vitals
  #observation: Observation | null
  /** Whether a probe found anything out. */
  #hasProbed = false
  #doubtedAt = Number.NEGATIVE_INFINITY
  #probedAt: number
  /** Of those who wait for a look that begins after they asked. */
  #resolves: (() => void)[] = []

  constructor(options: ProberOptions) {
    const { spec, known, probes, clock, dice } = options
    this.#options = options
    this.#observation = known
    this.#probedAt = clock.now()
    this.#vitals = known
      ? { ...unknownVitals, health: known.health, reason: known.reason, fault: known.fault ?? null }
      : unknownVitals
    // A closed connection is most often a death, but some servers close each.
    this.#probe = new Probe({ spec, clock, connectMs: probes().timeout, hungUp: () => this.doubt() })
    this.#loop = new Loop({
      clock,
      dice,
      periodMs: () => (wantsConfirmation(this.#vitals) ? confirmMs : probes().interval),
      round: (signal) => this.#round(signal),
    })
  }

  /** What is known of the node, or null until enough is. */
  get observation(): Observation | null {
    return this.#observation
  }

  /** The same, but null until a probe of this prober bore it out: before that it is what another instance saw. */
  get ownObservation(): Observation | null {
    return this.#hasProbed ? this.#observation : null
  }

  /** Whether no connection to the node comes up now, also while its health is still good. */
  get isUnreached(): boolean {
    return isUnreached(this.#vitals)
  }

  start(): void {
    this.#loop.start()
  }

  /** Takes effect at once: a probe under way is cut off and its result dropped. */
  stop(): void {
    void this.#loop.stop()
    this.#probe.destroy()
    for (const resolve of this.#resolves.splice(0)) resolve()
  }

  /** There is reason to doubt what is known of the node: looks now, but at most once per interval. */
  doubt(): void {
    const { clock, probes } = this.#options
    if (clock.now() - this.#doubtedAt < probes().interval) return
    this.#doubtedAt = clock.now()
    this.#loop.poke()
  }

  /**
   * What the node has is known to have changed: looks now, or right after the look under way. Resolves when that is over,
   * whatever was seen, or when no look comes any more.
   */
  look(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#resolves.push(resolve)
    this.#loop.poke()
    return promise
  }

  async #round(signal: AbortSignal): Promise<void> {
    const resolves = this.#resolves.splice(0)
    await this.#look(signal)
    for (const resolve of resolves) resolve()
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { name, probes, clock, metrics, evidence, late, changed } = this.#options
    const { timeout, rise, fall } = probes()
    const startedAt = clock.now()
    const patience = isSluggish(this.#vitals) ? Math.min(maxPatienceMs, patienceTimes * timeout) : timeout
    const look = await this.#probe.look(timeout, signal, patience)
    if (signal.aborted) return
    const at = clock.now()
    metrics?.probeSeconds.observe({ node: name }, (at - startedAt) / 1000)
    if (look.finding.kind === 'answered') evidence?.contacts.probed(name)
    if (look.finding.kind === 'none') late?.()
    const wasUnreached = this.isUnreached
    const attested = this.#attested(look.finding)
    this.#vitals = examine(this.#vitals, look.finding, { at, rise, fall, attested })
    this.#probedAt = startedAt
    const seen = this.#observe(look)
    const isSame = seen === null || (this.#observation && sameObservation(this.#observation, seen))
    if (!isSame) this.#observation = seen
    const isFirst = !this.#hasProbed && look.finding.kind !== 'none'
    this.#hasProbed ||= isFirst
    if (!isSame || isFirst || wasUnreached !== this.isUnreached) changed()
  }

  /** What requests say against a probe that failed. */
  #attested({ kind }: Finding): 'probe' | 'streak' | null {
    const { name, evidence } = this.#options
    if (!evidence || kind === 'answered' || kind === 'none') return null
    const own = evidence.contacts.of(name)
    const ownAt = own.answeredAt > own.failedAt ? own.answeredAt : Number.NEGATIVE_INFINITY
    const answeredAt = Math.max(ownAt, evidence.peersReached(name) ?? Number.NEGATIVE_INFINITY)
    if (answeredAt > this.#probedAt) return 'probe'
    return answeredAt > (this.#vitals.deadSince ?? Number.POSITIVE_INFINITY) ? 'streak' : null
  }

  /** What a node did not tell this time stays as it was, except that a dead one has nothing in memory. */
  #observe({ version, models, loaded }: Look): Observation | null {
    const { health, reason, fault } = this.#vitals
    if (health === null) return null
    const before = this.#observation
    return {
      health,
      reason,
      ...(fault && { fault }),
      since: before?.health === health ? before.since : this.#options.clock.date().toISOString(),
      version: version ?? before?.version ?? '',
      models: models ?? before?.models ?? [],
      loaded: health === 'down' ? [] : (loaded ?? before?.loaded ?? []),
    }
  }
}
