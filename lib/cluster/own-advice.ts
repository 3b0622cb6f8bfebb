import type { Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Evidence } from './prober.ts'
import { Probers } from './probers.ts'
import type { Observation } from './statuses.ts'

interface OwnAdviceOptions {
  readonly snapshot: () => Snapshot
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  readonly metrics: Metrics
  readonly evidence: Evidence
  /** Whether a leader can write its advice where this instance would read it. */
  readonly isWritable: () => boolean
  /** Whether this instance leads: what it cannot write, no other instance can tell it. */
  readonly leads: () => boolean
  /** Called when `observations` say something else. */
  readonly changed: () => void
}

/** Milliseconds without a heartbeat for which a leader's advice is trusted (docs/reliability.md#health-is-advice). */
const trustMs = 60_000
/** The same while the store takes no writes: a little more than the time between two heartbeats. */
const unwritableTrustMs = 7000
/** Observations within this many milliseconds are told together. */
const gatherMs = 100

/**
 * What this instance finds out by itself while no leader is heard. Leaders write a heartbeat every 5 s; after a minute
 * without one their weights and health are too old, and the instance probes every node for itself until one is back. While
 * the store takes no writes no leader can renew its advice: then the leader looks for itself at once, and the others soon.
 */
export class OwnAdvice {
  readonly #options: OwnAdviceOptions
  #heardAt: number | null = null
  #isStopped = false
  #probers: Probers | null = null
  #cancelTrust: () => void = () => {}
  #cancelTelling: (() => void) | null = null

  constructor(options: OwnAdviceOptions) {
    this.#options = options
  }

  /**
   * Trusts what is known for what is left of a minute since a leader confirmed it.
   *
   * @param confirmedAt wall-clock date of that; null for what was learned just now
   */
  start(confirmedAt: Date | null = null): void {
    const { clock, isWritable } = this.#options
    const trustedMs = isWritable() ? trustMs : unwritableTrustMs
    const ageMs = confirmedAt === null ? 0 : clock.date().getTime() - confirmedAt.getTime()
    // A date in the future says that clocks differ, and nothing about the age.
    const leftMs = ageMs < 0 ? 0 : trustedMs - ageMs
    this.#cancelTrust()
    this.#cancelTrust = clock.after(Math.max(0, leftMs), () => this.#begin())
  }

  /** The store began or ceased to take writes. */
  reconsider(): void {
    const { clock, isWritable, leads } = this.#options
    if (this.#isStopped || isWritable() || this.#probers) return
    const ageMs = this.#heardAt === null ? 0 : clock.now() - this.#heardAt
    this.#cancelTrust()
    if (leads()) this.#begin()
    else this.#cancelTrust = clock.after(Math.max(0, unwritableTrustMs - ageMs), () => this.#begin())
  }

  /** Takes effect before it returns. */
  stop(): void {
    this.#isStopped = true
    this.#cancelTrust()
    this.#end()
  }

  /** A leader gave a sign of life. */
  heard(): void {
    const { clock, log, changed, isWritable } = this.#options
    this.#heardAt = clock.now()
    // A heartbeat that a store lets in which refuses other keys brings no advice.
    if (this.#probers && !isWritable()) return
    this.start()
    if (!this.#probers) return
    this.#end()
    log.info('a leader is heard again: its advice counts')
    changed()
  }

  /** Whose weights and health are in force. */
  get source(): 'leader' | 'own' {
    return this.#probers ? 'own' : 'leader'
  }

  /** `clock.now()` of the last heartbeat, null before the first. */
  get heardAt(): number | null {
    return this.#heardAt
  }

  /** By node name; empty while a leader's advice counts, and null where nothing is known yet. */
  observations(): ReadonlyMap<string, Observation | null> {
    return this.#probers?.ownObservations() ?? new Map()
  }

  /** Follows the nodes of the snapshot. */
  match(): void {
    this.#probers?.match()
  }

  #begin(): void {
    const { log, metrics, clock, isWritable } = this.#options
    this.#probers = new Probers({ ...this.#options, changed: () => this.#tell() })
    this.#probers.match()
    metrics.adviceOwn.set(1)
    const silentSeconds = this.#heardAt === null ? null : Math.round((clock.now() - this.#heardAt) / 1000)
    if (isWritable()) log.warn('no leader is heard: this instance probes for itself', { silentSeconds })
    else log.warn('no leader can write its advice: this instance probes for itself', { silentSeconds })
  }

  #end(): void {
    this.#probers?.stop()
    this.#probers = null
    this.#cancelTelling?.()
    this.#cancelTelling = null
    this.#options.metrics.adviceOwn.set(0)
  }

  #tell(): void {
    const { clock, changed } = this.#options
    this.#cancelTelling ??= clock.after(gatherMs, () => {
      this.#cancelTelling = null
      changed()
    })
  }
}
