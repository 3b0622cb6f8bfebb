import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import { type Doubt, doubtOf } from './guard.ts'
import type { Objects } from './objects.ts'
import type { StoreUid } from './store-uid.ts'

interface TrustOptions {
  /** False for a store that is this instance's own: nobody else can wipe it. */
  readonly isGuarded: boolean
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

/**
 * Milliseconds that a store without its uid is left without one: time to restore a backup, after which nothing is doubted
 * any more (docs/etcd.md#mass-deletion).
 */
const unnamedMs = 60_000

/** What an instance remembers of the store it believes, and why it does not believe the one it sees. */
export class Trust {
  readonly #options: TrustOptions
  /** Of the store that what is in force comes from. */
  #uid: string | null = null
  #seen: { readonly uid: string | null; readonly revision: bigint } | null = null
  #unnamedSince: number | null = null
  #doubt: Doubt | null = null

  constructor(options: TrustOptions) {
    this.#options = options
  }

  /** The uid of the store that what is in force comes from; null while none is known. */
  get uid(): string | null {
    return this.#uid
  }

  get doubt(): Doubt | null {
    return this.#doubt
  }

  /** Begins with what an earlier process knew. */
  remember(uid: string | null, revision: bigint): void {
    this.#uid = uid
    this.#seen = { uid, revision }
  }

  /** Takes note of the store as it is now; returns whether its history is not the one seen before. */
  meet(uid: StoreUid | null, revision: bigint): boolean {
    const before = this.#seen
    this.#seen = { uid: uid?.id ?? null, revision }
    this.#unnamedSince = uid === null ? (this.#unnamedSince ?? this.#options.clock.now()) : null
    if (before === null) return false
    const isOther = before.uid !== null && uid?.id !== before.uid && !uid?.replaces.includes(before.uid)
    return isOther || revision < before.revision
  }

  /** Whether `told` may take the place of `known`. */
  believes(known: Objects, told: Objects, uid: StoreUid | null): boolean {
    const doubt = this.#options.isGuarded
      ? doubtOf({ uid: this.#uid, objects: known }, { uid, objects: told })
      : null
    this.#tell(doubt)
    if (doubt === null) this.#uid = uid?.id ?? this.#uid
    return doubt === null
  }

  /** Whether a leader may give the store a uid now. */
  mayName(): boolean {
    if (this.#unnamedSince === null) return false
    return this.#uid === null || this.#options.clock.now() - this.#unnamedSince >= unnamedMs
  }

  /** One line when a doubt arises and one when it is gone, not one per document that is restored meanwhile. */
  #tell(doubt: Doubt | null): void {
    const { log, metrics } = this.#options
    const before = this.#doubt
    this.#doubt = doubt
    metrics.configSuspect.set(doubt ? 1 : 0)
    if (doubt && doubt.kind !== before?.kind)
      log.error('the store is not believed; the last good configuration stays in force', {
        reason: doubt.reason,
        accept: 'POST /admin/v1/config/accept',
      })
    if (before && !doubt) log.info('the store is believed again')
  }
}
