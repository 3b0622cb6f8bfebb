import { doubledMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Log } from '../../shared/log.ts'
import type { Random } from '../../shared/random.ts'
import { type Store, StoreError } from '../../store/store.ts'

interface SessionOptions {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly ttlMs: number
  /** Called with each new lease. */
  readonly granted: () => void
}

interface Held {
  readonly id: string
  readonly ttlMs: number
  /**
   * Monotonic milliseconds. Counted from when the call was SENT, so that the lease ends here before it ends in the store.
   */
  readonly expiresAt: number
}

/**
 * Keeps a lease: it is granted, renewed every quarter of its TTL, and replaced by a new one when it is lost
 * (docs/etcd.md#lease). Users of the lease put their keys again whenever `lease` has changed.
 */
export class Session {
  readonly #options: SessionOptions
  readonly #loop: ControlLoop
  #held: Held | null = null
  #failures = 0

  constructor(options: SessionOptions) {
    this.#options = options
    this.#loop = new ControlLoop({
      clock: options.clock,
      random: options.random,
      periodMs: () => pauseMs(this.#failures, (this.#held?.ttlMs ?? options.ttlMs) / 4),
      round: () => this.#round(),
    })
  }

  /** The lease to put keys under, or null while there is none. */
  get lease(): string | null {
    return this.#held && this.#options.clock.now() < this.#held.expiresAt ? this.#held.id : null
  }

  start(): void {
    this.#loop.start()
  }

  /** Stops renewing, so that the lease runs out, as after a crash. */
  async orphan(): Promise<void> {
    await this.#loop.stop()
  }

  /** Revokes the lease, and with it every key under it. An unreachable store is no error: the lease runs out there. */
  async close(): Promise<void> {
    await this.orphan()
    const held = this.#held
    this.#held = null
    if (held) await this.#options.store.revoke(held.id).catch(() => {})
  }

  async #round(): Promise<void> {
    try {
      if (this.lease === null) await this.#grant()
      else await this.#renew()
      this.#failures = 0
    } catch (error) {
      if (isLeaseGone(error)) this.#held = null
      if (this.#failures++ === 0) this.#options.log.warn('the lease was not renewed: trying again', { error })
    }
  }

  async #grant(): Promise<void> {
    const { store, clock, ttlMs, granted } = this.#options
    const sentAt = clock.now()
    const lease = await store.grant(ttlMs)
    this.#held = { ...lease, expiresAt: sentAt + lease.ttlMs }
    granted()
  }

  async #renew(): Promise<void> {
    const { store, clock } = this.#options
    const held = this.#held
    if (!held) return
    const sentAt = clock.now()
    const leftMs = await store.renew(held.id)
    if (leftMs <= 0) throw new StoreError('no-lease', 'the lease has run out')
    this.#held = { ...held, expiresAt: sentAt + leftMs }
  }
}

/** Milliseconds until the next try: the regular period; after failures 100 ms, doubling up to 1 s. */
export function pauseMs(failures: number, period: number): number {
  return failures === 0 ? period : Math.min(period, doubledMs(100, 1000, failures - 1))
}

export function isLeaseGone(error: unknown): boolean {
  return error instanceof StoreError && error.fault === 'no-lease'
}
