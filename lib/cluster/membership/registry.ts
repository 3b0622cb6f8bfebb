import { type InstanceRecord, type LoadSummary, summaryPeriodMs } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Log } from '../../shared/log.ts'
import type { Random } from '../../shared/random.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Compare, Entry, Store } from '../../store/store.ts'
import { readInstance, rememberedText } from '../records.ts'
import { isLeaseGone, Session } from './session.ts'

interface RegistryOptions {
  readonly store: Store
  readonly keys: KeyLayout
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /**
   * Milliseconds for which the record outlives a process that died, and between two tries while another process has the
   * name.
   */
  readonly ttlMs: number
  readonly id: string
  readonly boot: string
  /** The boot id of an earlier process of this name that has certainly ended. */
  readonly predecessor: string | null
  readonly record: () => InstanceRecord
  readonly load: () => LoadSummary
  /** Called when the instance became registered. */
  readonly registered: () => void
}

/** Milliseconds between two comparisons with what is in the store: as often as a load summary may be written. */
const paceMs = summaryPeriodMs

/** Another process that is registered under this instance's name. */
export interface Rival {
  readonly boot: string
  /** Where it runs, in a few words. */
  readonly place: string
}

/** Characters shown of another process's record. */
const maxTold = 100

/** A key of this instance as it was written last. */
interface Written {
  readonly lease: string
  readonly text: string
  readonly modified: bigint
}

/**
 * Keeps this instance's record and load summary in the store under the session's lease (docs/etcd.md#registration). The
 * first process that registers a name has it. A second process with the same name serves, but stays unregistered.
 */
export class Registry {
  readonly #options: RegistryOptions
  readonly #session: Session
  readonly #loop: ControlLoop
  #record: Written | null = null
  #load: Written | null = null
  #loadAt = Number.NEGATIVE_INFINITY
  /** The process that has our name, and until when not to try again. */
  #rival: (Rival & { readonly until: number }) | null = null

  constructor(options: RegistryOptions) {
    this.#options = options
    this.#session = new Session({ ...options, granted: () => this.#loop.poke() })
    this.#loop = new ControlLoop({
      clock: options.clock,
      random: options.random,
      periodMs: () => paceMs,
      jitter: 0,
      round: () => this.#round(),
    })
  }

  start(): void {
    this.#session.start()
    this.#loop.start()
  }

  /** Ends the lease, and with it the registration. */
  async stop(): Promise<void> {
    await this.#loop.stop()
    if (this.isRegistered) await this.#sayGoodbye()
    await this.#session.close()
  }

  /** Without this, the leader would take the end of the lease for a crash. */
  async #sayGoodbye(): Promise<void> {
    const { store, keys, id, clock, record, log } = this.#options
    const value = rememberedText(record(), { since: clock.date().toISOString(), how: 'stopped' })
    const put = { type: 'put', key: keys.rememberedInstance(id), value } as const
    await store.commit({ when: [], apply: [put] }).catch((error) => {
      log.debug('the clean stop is not in the store', { error })
    })
  }

  /** Whether this instance's record is in the store under its current lease. */
  get isRegistered(): boolean {
    return this.#record !== null && this.#record.lease === this.#session.lease
  }

  /** The process that is registered under our name; null when there is none, or when it was seen last two TTLs ago. */
  get rival(): Rival | null {
    const { clock, ttlMs } = this.#options
    return this.#rival && clock.now() < this.#rival.until + ttlMs ? this.#rival : null
  }

  /** Publishes changes at once instead of within a second. */
  poke(): void {
    this.#loop.poke()
  }

  /** Registers again, as if nothing were in the store yet. */
  registerAgain(): void {
    this.#record = null
    this.#load = null
    this.#loop.poke()
  }

  /** Notes the record as a watch saw it at `revision`. A record that was deleted is written again. */
  observe(entry: Entry | null, revision: bigint): void {
    if (entry === null) this.#rival = null
    if (this.#record && (revision < this.#record.modified || this.#isOurs(entry))) return
    this.registerAgain()
  }

  async #round(): Promise<void> {
    const { lease } = this.#session
    if (lease === null || (this.#rival && this.#options.clock.now() < this.#rival.until)) return
    try {
      if (await this.#publishRecord(lease)) await this.#publishLoad(lease)
    } catch (error) {
      if (isLeaseGone(error)) this.#record = null
      this.#options.log.debug('registration not written', { error })
    }
  }

  /** Returns whether the record is in the store. */
  async #publishRecord(lease: string): Promise<boolean> {
    const { keys, id, log, registered } = this.#options
    const text = JSON.stringify(this.#options.record())
    if (this.#record?.lease === lease && this.#record.text === text) return true
    const wasRegistered = this.isRegistered
    const modified = await this.#put(keys.instance(id), text, lease, this.#record?.modified ?? null)
    if (modified === null) return false
    this.#record = { lease, text, modified }
    this.#rival = null
    if (wasRegistered) return true
    log.info('instance registered', { instance: id })
    registered()
    return true
  }

  /** Puts our record unless another live process has the name. Returns its revision, or null when that is the case. */
  async #put(key: string, value: string, lease: string, expected: bigint | null): Promise<bigint | null> {
    const when: Compare = expected === null ? { key, created: 0n } : { key, modified: expected }
    const { succeeded, revision, found } = await this.#options.store.commit({
      when: [when],
      apply: [{ type: 'put', key, value, lease }],
      otherwise: [key],
    })
    if (succeeded) return revision
    const holder = found[0] ?? null
    // A key without a lease was written by hand, and so was one under our lease that is not our record.
    const isHeld = holder !== null && holder.lease !== null && holder.lease !== lease
    if (isHeld && !this.#isOurs(holder)) return this.#noteRival(holder)
    return this.#put(key, value, lease, holder?.modified ?? null)
  }

  #noteRival(holder: Entry): null {
    const { id, clock, ttlMs, log } = this.#options
    const record = readInstance(holder.value)
    const boot = record?.boot ?? ''
    const place = placeOf(record)
    if (this.#rival?.boot !== boot)
      log.warn('duplicate instance name', {
        instance: id,
        holder: place,
        effect: 'this instance is not ready and does not lead',
        remedy:
          'give each instance a unique name (LLAMERO_NAME) and restart it; the registration of a process that was killed ends within seconds',
      })
    this.#rival = { boot, place, until: clock.now() + ttlMs }
    this.#record = null
    return null
  }

  #isOurs(entry: Entry | null): boolean {
    if (entry === null) return false
    const { boot, predecessor } = this.#options
    const holder = readInstance(entry.value)?.boot
    return holder === boot || (predecessor !== null && holder === predecessor)
  }

  async #publishLoad(lease: string): Promise<void> {
    const { store, keys, id, clock, load } = this.#options
    const text = JSON.stringify(load())
    if (this.#load?.lease === lease && this.#load.text === text) return
    if (clock.now() - this.#loadAt < summaryPeriodMs) return
    this.#loadAt = clock.now()
    const put = { type: 'put', key: keys.load(id), value: text, lease } as const
    const { revision } = await store.commit({ when: [], apply: [put] })
    this.#load = { lease, text, modified: revision }
  }
}

function placeOf(record: InstanceRecord | null): string {
  if (record === null) return 'an unreadable registration'
  const { host, data, admin } = record
  const where = host ? `host ${host}, ` : ''
  return `${where}data ${data}, admin ${admin}`.replace(/[^\x20-\x7e]/g, '?').slice(0, maxTold)
}
