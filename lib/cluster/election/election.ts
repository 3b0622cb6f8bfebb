import type { Clock } from '../../shared/clock.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Log } from '../../shared/log.ts'
import type { Random } from '../../shared/random.ts'
import type { Entry, Operation, Store } from '../../store/store.ts'
import { isLeaseGone, pauseMs } from '../membership/session.ts'
import { ageOf, type ElectionCandidate, holding, isHeld, type Leader, momentOf } from './election-term.ts'
import { describeKey, OrphanKey } from './orphan-key.ts'

interface ElectionOptions {
  readonly store: Store
  /** The leader key. */
  readonly key: string
  /** Instance id: the bare value of the leader key, which VIP managers compare literally. */
  readonly id: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly ttlMs: number
  /** Whether this instance may lead now. */
  readonly mayLead: () => boolean
  /** Whether an instance of that id is registered. */
  readonly isRegistered: (id: string) => boolean
  /** Called synchronously whenever leadership was won or lost. */
  readonly changed: () => void
}

/**
 * A leader steps down this share of a TTL after it SENT its last good renewal; the rest is margin for clock rates and
 * pauses.
 */
const validShare = 0.7
/** Standbys that see the key vanish campaign within this many milliseconds of each other. */
const campaignSpreadMs = 100

/** The share by which a period may be longer (`ControlLoop`). */
const jitter = 0.1
/**
 * Milliseconds between two tries at least. A leader that is overdue tries again at once, and an etcd that is down refuses
 * at once: without a pause it would keep a core busy until its term ends.
 */
const retryMs = 50
/** Milliseconds that a call may take, for a store without a deadline of its own. */
const usualDeadlineMs = 1000

type State = { readonly phase: 'standby'; readonly restUntil: number } | ElectionCandidate | Leader

/**
 * Elects one leader by a transaction on one key (docs/etcd.md#election). There are never two, even if the store fails.
 *
 *   standby ──key absent: new lease──> candidate ──transaction puts it──> leader
 *   candidate ──another instance has the key, or the lease is too old──> standby
 *   leader ──deadline, failed proof, key seen changed, step-down──> standby, resting for one period
 *
 * Every term has a lease of its own, which is never used for another term. A leader key that no instance holds (written
 * by hand: without a lease, or for an instance that is not registered) is removed, guarded by its revision.
 */
export class Election {
  readonly #options: ElectionOptions
  readonly #loop: ControlLoop
  readonly #periodMs: number
  #state: State = { phase: 'standby', restUntil: 0 }
  /** The lease of an ended term that could not be revoked yet: until it runs out no other instance can lead. */
  #unrevoked: string | null = null
  /**
   * Our leader key after another writer changed its value or lease. No other instance can hold it, so this one removes
   * it.
   */
  #overwritten: Entry | null = null
  readonly #orphan: OrphanKey
  #unregisteredSince: number | null = null
  #failures = 0
  #cancelDeadline: () => void = () => {}
  #cancelCampaign: () => void = () => {}

  constructor(options: ElectionOptions) {
    this.#options = options
    this.#orphan = new OrphanKey(options)
    this.#periodMs = options.ttlMs / 5
    this.#loop = new ControlLoop({
      clock: options.clock,
      random: options.random,
      periodMs: () => Math.max(this.#failures > 0 ? retryMs : 0, pauseMs(this.#failures, this.#untilDue())),
      jitter,
      round: (signal) => this.#round(signal),
    })
  }

  start(): void {
    this.#loop.start()
  }

  /** Steps down and does not campaign again. */
  async stop(): Promise<void> {
    const ended = this.#loop.stop()
    this.#cancelCampaign()
    await this.stepDown()
    await ended
  }

  /** True only while the last renewal is valid by the monotonic clock; late timers do not matter. */
  isLeader(): boolean {
    return this.#state.phase === 'leader' && this.#options.clock.now() < this.#state.validUntil
  }

  /**
   * Whether the store confirmed leadership within a period and the deadline of a call. For actions that no transaction
   * guards, like moving a virtual IP. While a machine is suspended its monotonic clock stands still; its wall clock, once
   * set right, shows that time has passed.
   */
  get isProven(): boolean {
    const { clock, store } = this.#options
    if (this.#state.phase !== 'leader' || !this.isLeader()) return false
    return (
      ageOf(this.#state.sent, clock) < this.#periodMs * (1 + jitter) + (store.deadlineMs ?? usualDeadlineMs)
    )
  }

  /** This instance's own term, or null when it does not lead. */
  get fence(): bigint | null {
    return this.#state.phase === 'leader' && this.isLeader() ? this.#state.fence : null
  }

  /** Runs the next round now, unless this instance leads. */
  poke(): void {
    if (this.#state.phase !== 'leader') this.#loop.poke()
  }

  /** Takes note of the leader key as a watch saw it at `revision`. */
  observe(entry: Entry | null, revision: bigint): void {
    const state = this.#state
    if (state.phase === 'leader') {
      // A watch may lag behind our transaction: what it saw before the term began says nothing about the term.
      if (revision >= state.fence && !isHeld(state, this.#options, entry)) this.#loseKey(state, entry)
      return
    }
    this.#cancelCampaign()
    if (entry !== null && this.#orphan.reason(entry) === null) return
    const { clock, random } = this.#options
    const waitMs = entry === null ? 0 : this.#orphan.leftMs(entry)
    this.#cancelCampaign = clock.after(waitMs + random() * campaignSpreadMs, () => this.#loop.poke())
  }

  /**
   * Writes as the leader: all of `apply` (at most 128 operations) or nothing, and only while this instance holds the
   * leader key. Returns the revision of the write, or null when it was refused. Rejects with a StoreError.
   */
  async guarded(apply: readonly Operation[]): Promise<bigint | null> {
    const { store, key } = this.#options
    const term = this.#state
    if (term.phase !== 'leader' || !this.isLeader()) return null
    const transaction = { when: holding(term, this.#options), apply, otherwise: [key] }
    const { succeeded, revision, found } = await store.commit(transaction)
    if (succeeded) return revision
    // The term ends before the caller learns of the refusal, even if timers are late.
    if (this.#state.phase === 'leader' && this.#state.fence === term.fence)
      this.#loseKey(this.#state, found[0] ?? null)
    return null
  }

  /** Gives up leadership, so that another instance can win it at once. This one does not campaign for a period. */
  async stepDown(): Promise<void> {
    if (this.#state.phase === 'leader')
      this.#options.log.info('stepped down: leadership given up', this.#term())
    await this.#endTerm(this.#options.clock.now() + this.#periodMs)
  }

  async #round(signal: AbortSignal): Promise<void> {
    try {
      await this.#revokeLeftover()
      if (this.#state.phase === 'leader') await this.#renew(this.#state)
      else if (this.#state.phase === 'candidate') await this.#claim(this.#state)
      else if (await this.#isVacant(this.#state.restUntil)) await this.#campaign(signal)
      this.#failures = 0
    } catch (error) {
      this.#failures++
      this.#options.log.debug('election round failed', { phase: this.#state.phase, error })
    }
  }

  async #isVacant(restUntil: number): Promise<boolean> {
    const { store, key, clock, mayLead } = this.#options
    if (!mayLead() || clock.now() < restUntil) return false
    const entry = await store.get(key)
    return entry === null || (await this.#orphan.removeIfDue(entry))
  }

  async #campaign(signal: AbortSignal): Promise<void> {
    const { store, clock, ttlMs } = this.#options
    const sent = momentOf(clock)
    const lease = await store.grant(ttlMs)
    if (signal.aborted) return // the lease runs out, with no key under it
    const validUntil = sent.at + validShare * lease.ttlMs
    const candidate: ElectionCandidate = { phase: 'candidate', lease: lease.id, sent, validUntil }
    this.#state = candidate
    await this.#claim(candidate)
  }

  /** Safe to repeat with the same lease: if a response was lost, the key is found under that lease. */
  async #claim(candidate: ElectionCandidate): Promise<void> {
    const { store, key, id, clock, mayLead } = this.#options
    const { lease, sent, validUntil } = candidate
    if (!mayLead() || clock.now() >= validUntil) return this.#endTerm(0)
    const { succeeded, revision, found } = await store
      .commit({
        when: [{ key, created: 0n }],
        apply: [{ type: 'put', key, value: id, lease }],
        otherwise: [key],
      })
      .catch((error: unknown) => this.#abandon(candidate, error))
    if (this.#state !== candidate) return
    const holder = found[0] ?? null
    const fence = succeeded ? revision : holder?.lease === lease ? holder.created : null
    if (fence === null || clock.now() >= validUntil) return this.#endTerm(0)
    this.#unregisteredSince = null
    this.#holdTerm({ phase: 'leader', lease, sent, validUntil, fence })
    this.#options.log.info('leader elected: this instance leads', this.#term())
    this.#options.changed()
  }

  /** Without its lease, a candidate starts over. After any other error the outcome is open, and the claim is repeated. */
  #abandon(candidate: ElectionCandidate, error: unknown): never {
    if (isLeaseGone(error) && this.#state === candidate) this.#state = { phase: 'standby', restUntil: 0 }
    throw error
  }

  async #renew(term: Leader): Promise<void> {
    const { store, key, clock } = this.#options
    const sent = momentOf(clock)
    if (sent.at >= term.validUntil) return this.#demote('not renewed in time')
    if (this.#isLongUnregistered()) return this.#demote('this instance is not registered any more')
    // A renewal alone proves nothing: etcd 3.4 may renew a revoked lease. `otherwise` names a key because etcd answers
    // a transaction without any read or write from memory, without a quorum.
    const proof = { when: holding(term, this.#options), apply: [], otherwise: [key] }
    const [leftMs, { succeeded, found }] = await Promise.all([
      store.renew(term.lease),
      store.commit(proof),
    ]).catch((error: unknown) => {
      if (this.#state === term && isLeaseGone(error)) this.#demote('the lease is gone')
      throw error
    })
    if (this.#state !== term) return
    if (!succeeded) return this.#loseKey(term, found[0] ?? null)
    if (leftMs <= 0) return this.#demote('the lease is gone')
    this.#holdTerm({ ...term, sent, validUntil: sent.at + validShare * leftMs })
  }

  /** Milliseconds until the next round. A leader counts from when it sent the last renewal, not from the response. */
  #untilDue(): number {
    if (this.#state.phase !== 'leader') return this.#periodMs
    return Math.max(0, this.#state.sent.at + this.#periodMs - this.#options.clock.now())
  }

  /**
   * Whether this instance has been unregistered for a TTL: the others may then take its leader key for one written by
   * hand.
   */
  #isLongUnregistered(): boolean {
    const { clock, id, isRegistered, ttlMs } = this.#options
    if (isRegistered(id)) this.#unregisteredSince = null
    else this.#unregisteredSince ??= clock.now()
    return this.#unregisteredSince !== null && clock.now() - this.#unregisteredSince >= ttlMs
  }

  /** Ends the term because the leader key is not as this instance put it. */
  #loseKey(term: Leader, entry: Entry | null): void {
    // An overwritten key keeps its create revision, and no other instance can have won with that.
    if (entry?.created === term.fence) this.#overwritten = entry
    this.#demote(entry === null ? 'the leader key is gone' : 'the leader key was changed', entry)
  }

  #holdTerm(term: Leader): void {
    const { clock } = this.#options
    this.#state = term
    this.#cancelDeadline()
    this.#cancelDeadline = clock.after(term.validUntil - clock.now(), () =>
      this.#demote('not renewed in time'),
    )
  }

  #demote(reason: string, entry: Entry | null = null): void {
    const { clock, log } = this.#options
    log.warn('leadership lost', { ...this.#term(), reason, ...(entry && describeKey(entry)) })
    void this.#endTerm(clock.now() + this.#periodMs)
  }

  /** Stops all work before the first await. An unreachable store is no error: the lease is revoked later, or runs out. */
  async #endTerm(restUntil: number): Promise<void> {
    const state = this.#state
    if (state.phase === 'standby') return
    this.#cancelDeadline()
    this.#state = { phase: 'standby', restUntil }
    if (state.phase === 'leader') this.#options.changed()
    this.#unrevoked = state.lease
    await this.#revokeLeftover().catch(() => {})
  }

  async #revokeLeftover(): Promise<void> {
    const lease = this.#unrevoked
    if (lease !== null) await this.#options.store.revoke(lease)
    if (this.#unrevoked === lease) this.#unrevoked = null
    const overwritten = this.#overwritten
    if (overwritten === null) return
    await this.#orphan.remove(overwritten, 'it was written over the key of this instance')
    if (this.#overwritten === overwritten) this.#overwritten = null
  }

  #term(): { fence: string | null } {
    return { fence: this.#state.phase === 'leader' ? String(this.#state.fence) : null }
  }
}
