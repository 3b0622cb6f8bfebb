import type { Snapshot } from '../../fleet/snapshot.ts'
import { Coalescer } from '../../shared/coalesce.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Store } from '../../store/store.ts'
import { readHeartbeat } from '../records.ts'
import { ClockSkew } from './clock-skew.ts'
import type { Evidence } from './prober.ts'
import { Probers } from './probers.ts'
import type { Observation } from './stored-status.ts'

interface FallbackProberOptions extends Runtime {
  readonly store: Pick<Store, 'condition'>
  /** Whether the store does not answer now. */
  readonly isStoreLost: () => boolean
  readonly keys: KeyLayout
  readonly snapshot: { get(): Snapshot }
  readonly evidence: Evidence
  /** Whether this instance leads: then no other instance writes its statuses. */
  readonly leads: () => boolean
  /** Called when `observations` changed. */
  readonly changed: () => void
}

/** Milliseconds without a heartbeat for which a leader's advice is trusted (docs/reliability.md#health-is-advice). */
const trustMs = 60_000
/** The same while the store takes no writes or does not answer: a little more than the time between two heartbeats. */
const noNewsTrustMs = 7000
/** Milliseconds in which changed observations are gathered. */
const gatherMs = 100

/**
 * Probes every node from this instance while no leader does. Leaders write a heartbeat every 5 s; after a minute without
 * one their weights and health are too old, and the instance probes until a leader is back. While the store does not answer
 * no advice can arrive: the instance probes soon. While the store takes no writes no leader can renew its advice: then the
 * leader itself probes at once, and the others soon.
 */
export class FallbackProber {
  readonly #options: FallbackProberOptions
  readonly #skew: ClockSkew
  /** Date of the last heartbeat, in this process or an earlier one; null while no advice is known. */
  #confirmedAt: Date | null = null
  /** Monotonic milliseconds of the last heartbeat; null before the first. */
  #heardAt: number | null = null
  #startedAt = 0
  #hasFollowed = false
  #isStopped = false
  #probers: Probers | null = null
  #cancelTrust: () => void = () => {}
  readonly #changed: Coalescer

  constructor(options: FallbackProberOptions) {
    this.#options = options
    this.#skew = new ClockSkew(options)
    this.#changed = new Coalescer(options.clock, options.changed)
    options.store.condition?.onChange(() => this.reconsider())
  }

  /** Date of the last heartbeat, in this process or an earlier one; null while no advice is known. */
  get confirmedAt(): Date | null {
    return this.#confirmedAt
  }

  /** Whether a heartbeat arrived in this process. */
  get hasHeard(): boolean {
    return this.#heardAt !== null
  }

  /** The origin of the weights and health in force. */
  get source(): 'leader' | 'own' {
    return this.#probers ? 'own' : 'leader'
  }

  /** Own observations by node name, null before the first probe; empty while a leader's advice is used. */
  observations(): ReadonlyMap<string, Observation | null> {
    return this.#probers?.ownObservations() ?? new Map()
  }

  /** Begins with the advice of an earlier process; `confirmedAt` is the last heartbeat that it received, null: none. */
  restore(confirmedAt: string | null): void {
    this.#confirmedAt = new Date(confirmedAt ?? 0)
  }

  /** Trusts what is known for what is left of a minute since a leader confirmed it. */
  start(): void {
    this.#startedAt = this.#options.clock.now()
    this.#trust()
  }

  /** Takes effect before it returns. */
  stop(): void {
    this.#isStopped = true
    this.#cancelTrust()
    this.#end()
  }

  /**
   * Follows the heartbeat in the store. The leader of a store that is not trusted may probe other nodes than
   * those in force, and the heartbeat that is found first may be as old as the store.
   */
  follow(changed: ReadonlySet<string>, entries: ReadonlyMap<string, Entry>, isTrusted: boolean): void {
    const { keys } = this.#options
    if (changed.has(keys.heartbeat) && this.#hasFollowed && isTrusted)
      this.#hear(entries.get(keys.heartbeat), entries.get(keys.leader))
    this.#hasFollowed = true
  }

  /** Follows the nodes of the snapshot. */
  match(): void {
    this.#probers?.match()
  }

  /** Reads the age of the last heartbeat into the metrics. */
  measure(): void {
    const { clock, metrics } = this.#options
    if (this.#heardAt !== null) metrics.heartbeatAge.set((clock.now() - this.#heardAt) / 1000)
  }

  /**
   * Only a heartbeat of the current leader counts: one of a former leader, or one written by hand, does not prove that
   * the advice is current.
   */
  #hear(entry: Entry | undefined, leader: Entry | undefined): void {
    const { clock, log, changed } = this.#options
    const heartbeat = entry ? readHeartbeat(entry) : null
    if (!leader || heartbeat?.fence !== leader.created) return
    if (heartbeat.at) this.#skew.observe(leader.value, heartbeat.at)
    this.#confirmedAt = clock.date()
    this.#heardAt = clock.now()
    // A store that refuses other keys may accept a heartbeat, which then brings no new statuses.
    if (this.#probers && !this.#isWritable) return
    this.#trust()
    if (!this.#probers) return
    this.#end()
    log.info('leader is back: using its health and weights')
    changed()
  }

  /** Called when the store began or ceased to take writes, and when it does not answer. */
  reconsider(): void {
    if (this.#isStopped || this.#probers) return
    this.#cancelTrust()
    if (!this.#isWritable && this.#options.leads()) this.#begin()
    else this.#trust()
  }

  /** Begins to probe when the advice is too old, which may be later than it seems now: the store may answer again. */
  #trust(): void {
    const { clock, isStoreLost } = this.#options
    const trustedMs = this.#isWritable && !isStoreLost() ? trustMs : noNewsTrustMs
    const leftMs = trustedMs - this.#ageMs()
    this.#cancelTrust()
    this.#cancelTrust = clock.after(Math.max(0, leftMs), () => {
      const isLonger = trustedMs === noNewsTrustMs && this.#isWritable && !isStoreLost()
      if (isLonger) this.#trust()
      else this.#begin()
    })
  }

  /** Milliseconds since a leader confirmed what is known, or since the start while nothing is. */
  #ageMs(): number {
    const { clock } = this.#options
    if (this.#heardAt !== null) return clock.now() - this.#heardAt
    if (this.#confirmedAt === null) return clock.now() - this.#startedAt
    const ageMs = clock.date().getTime() - this.#confirmedAt.getTime()
    // A date in the future says that clocks differ, and nothing about the age.
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs
  }

  /** Whether a leader can write its advice where this instance would read it. */
  get #isWritable(): boolean {
    return (this.#options.store.condition?.trouble ?? null) === null
  }

  #begin(): void {
    const { log, metrics, clock, snapshot } = this.#options
    this.#probers = new Probers({
      ...this.#options,
      snapshot: () => snapshot.get(),
      changed: () => this.#changed.within(gatherMs),
    })
    this.#probers.match()
    metrics.adviceOwn.set(1)
    const silentSeconds = this.#heardAt === null ? null : Math.round((clock.now() - this.#heardAt) / 1000)
    if (this.#isWritable)
      log.warn('no heartbeat of a leader: this instance probes the nodes itself', { silentSeconds })
    else
      log.warn(
        'the store takes no writes, so no leader can update health and weights: this instance probes the nodes itself',
        { silentSeconds },
      )
  }

  #end(): void {
    this.#probers?.stop()
    this.#probers = null
    this.#changed.cancel()
    this.#options.metrics.adviceOwn.set(0)
  }
}
