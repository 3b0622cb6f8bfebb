import type { Config } from '../../fleet/config.ts'
import type { Contacts } from '../../fleet/contacts.ts'
import type { NodeSpec } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Random } from '../../shared/random.ts'
import {
  examine,
  type Finding,
  isUnreached,
  unknownVitals,
  type Vitals,
  wantsConfirmation,
} from './node-health.ts'
import { Probe, type ProbeResult } from './probe.ts'
import { type Observation, sameObservation } from './stored-status.ts'

interface ProberOptions {
  readonly name: string
  readonly spec: NodeSpec
  /** What an earlier leader observed: a new leader starts from that instead of an unknown fleet. */
  readonly known: Observation | null
  /** Read before each probe. */
  readonly probes: () => Config['probes']
  readonly clock: Clock
  readonly random: Random
  readonly metrics?: Metrics
  /** Which nodes answer requests; left out in a process that serves none. */
  readonly evidence?: Evidence
  /** Called for each probe that was lost because of this instance itself. */
  readonly late?: () => void
  /** Called when the observation changed, or when the node became unreachable or reachable. */
  readonly changed: () => void
}

/** Which nodes answer requests. */
export interface Evidence {
  /** Requests of this instance. */
  readonly contacts: Contacts
  /** When another instance last reported a response of the node, in monotonic milliseconds; null: never. */
  readonly peersReached: (node: string) => number | null
}

/** Milliseconds between a refused connection and the probe that confirms it. */
const confirmMs = 100
/**
 * A slow node has this many times the timeout of a probe, and at most `maxPatienceMs`, to list its models. A node that is
 * not slow yet has the timeout alone: the wait delays the next probe, and so the news that the node is slow.
 */
const patienceTimes = 10
const maxPatienceMs = 30_000

/** Probes one node in a loop, and keeps its health and models. */
export class Prober {
  readonly #options: ProberOptions
  readonly #probe: Probe
  readonly #loop: ControlLoop
  #vitals: Vitals
  #observation: Observation | null
  /** Whether a probe had a result. */
  #hasProbed = false
  #doubtedAt = Number.NEGATIVE_INFINITY
  #probedAt: number
  /** Resolve the promises of `refresh` that wait for the next probe. */
  #resolves: (() => void)[] = []

  constructor(options: ProberOptions) {
    const { spec, known, probes, clock, random } = options
    this.#options = options
    this.#observation = known
    this.#probedAt = clock.now()
    this.#vitals = known
      ? { ...unknownVitals, health: known.health, reason: known.reason, fault: known.fault ?? null }
      : unknownVitals
    // A closed connection mostly means that the server died, but some servers close every connection.
    this.#probe = new Probe({ spec, clock, connectMs: probes().timeout, hungUp: () => this.requestProbe() })
    this.#loop = new ControlLoop({
      clock,
      random,
      periodMs: () => (wantsConfirmation(this.#vitals) ? confirmMs : probes().interval),
      round: (signal) => this.#round(signal),
    })
  }

  /** Health and models of the node; null while its health is unknown. */
  get observation(): Observation | null {
    return this.#observation
  }

  /** The same, but null until this prober's first probe: before that it is what another instance observed. */
  get ownObservation(): Observation | null {
    return this.#hasProbed ? this.#observation : null
  }

  /** Whether this instance cannot connect to the node now, also while its health is still good. */
  get isUnreached(): boolean {
    return isUnreached(this.#vitals)
  }

  start(): void {
    this.#loop.start()
  }

  /** Takes effect at once: a probe under way is aborted. */
  stop(): void {
    void this.#loop.stop()
    this.#probe.destroy()
    for (const resolve of this.#resolves.splice(0)) resolve()
  }

  /** Probes the node now, at most once per interval. Called when a request contradicted what is known of it. */
  requestProbe(): void {
    const { clock, probes } = this.#options
    if (clock.now() - this.#doubtedAt < probes().interval) return
    this.#doubtedAt = clock.now()
    this.#loop.poke()
  }

  /**
   * Probes the node now, or right after the probe under way. Called when its models changed. Resolves when that probe is
   * over, whether or not it had a result, or when the prober stops.
   */
  refresh(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#resolves.push(resolve)
    this.#loop.poke()
    return promise
  }

  async #round(signal: AbortSignal): Promise<void> {
    const resolves = this.#resolves.splice(0)
    await this.#probeNode(signal)
    for (const resolve of resolves) resolve()
  }

  async #probeNode(signal: AbortSignal): Promise<void> {
    const { name, probes, clock, metrics, evidence, late, changed } = this.#options
    const { timeout, rise, fall } = probes()
    const startedAt = clock.now()
    const patience =
      this.#vitals.health === 'slow' ? Math.min(maxPatienceMs, patienceTimes * timeout) : timeout
    const result = await this.#probe.run(timeout, signal, patience)
    if (signal.aborted) return
    const at = clock.now()
    metrics?.probeSeconds.observe({ node: name }, (at - startedAt) / 1000)
    if (result.finding.kind === 'answered') evidence?.contacts.probed(name)
    if (result.finding.kind === 'none') late?.()
    const wasUnreached = this.isUnreached
    const attested = this.#attested(result.finding)
    this.#vitals = examine(this.#vitals, result.finding, { at, rise, fall, attested })
    this.#probedAt = startedAt
    const seen = this.#observe(result)
    const isSame = seen === null || (this.#observation && sameObservation(this.#observation, seen))
    if (!isSame) this.#observation = seen
    const isFirst = !this.#hasProbed && result.finding.kind !== 'none'
    this.#hasProbed ||= isFirst
    if (!isSame || isFirst || wasUnreached !== this.isUnreached) changed()
  }

  /** See `Rules.attested`, for a probe that failed. */
  #attested({ kind }: Finding): 'probe' | 'streak' | null {
    const { name, evidence } = this.#options
    if (!evidence || kind === 'answered' || kind === 'none') return null
    const own = evidence.contacts.of(name)
    const ownAt = own.answeredAt > own.failedAt ? own.answeredAt : Number.NEGATIVE_INFINITY
    const answeredAt = Math.max(ownAt, evidence.peersReached(name) ?? Number.NEGATIVE_INFINITY)
    if (answeredAt > this.#probedAt) return 'probe'
    return answeredAt > (this.#vitals.deadSince ?? Number.POSITIVE_INFINITY) ? 'streak' : null
  }

  /** What this probe did not find out stays as it was, except that a node that is down has no models in memory. */
  #observe({ version, models, loaded }: ProbeResult): Observation | null {
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
