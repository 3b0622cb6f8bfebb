import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Entry, Operation, Store } from '../store/store.ts'
import { isLeaseGone, pauseMs } from './session.ts'

interface ElectionOptions {
  readonly store: Store
  /** The leader key. */
  readonly key: string
  /** Instance id: the bare value of the leader key, which VIP managers compare literally. */
  readonly id: string
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  readonly ttlMs: number
  /** Whether this instance may lead now. */
  readonly mayLead: () => boolean
  /** Called synchronously whenever leadership was won or lost. */
  readonly changed: () => void
}

/** A leader stops this share of a TTL after it SENT its last good renewal; the rest is margin for clock rates and pauses. */
const validShare = 0.7
/** Standbys that see the key vanish campaign within this many milliseconds of each other. */
const campaignSpreadMs = 100

type State =
  | { readonly phase: 'standby'; readonly restUntil: number }
  | { readonly phase: 'candidate'; readonly lease: string; readonly validUntil: number }
  | { readonly phase: 'leader'; readonly lease: string; readonly validUntil: number; readonly fence: bigint }
type Candidate = Extract<State, { phase: 'candidate' }>
type Leader = Extract<State, { phase: 'leader' }>

/**
 * One leader by one transaction on one key (sheet etcd.md §3.2); never two, whatever the store does.
 *
 *   standby ──key absent: new lease──> candidate ──transaction puts it──> leader
 *   candidate ──the key is another's, or it took too long──> standby
 *   leader ──deadline, failed proof, key seen changed, step-down──> standby, resting for one period
 *
 * Every term has a lease of its own: after any doubt it is dropped, never reused.
 */
export class Election {
  readonly #options: ElectionOptions
  readonly #loop: Loop
  readonly #periodMs: number
  #state: State = { phase: 'standby', restUntil: 0 }
  /** The lease of an ended term that could not be revoked: until it runs out nobody else can lead. */
  #unrevoked: string | null = null
  #failures = 0
  #cancelDeadline: () => void = () => {}
  #cancelCampaign: () => void = () => {}

  constructor(options: ElectionOptions) {
    this.#options = options
    this.#periodMs = options.ttlMs / 5
    this.#loop = new Loop({
      clock: options.clock,
      dice: options.dice,
      periodMs: () => pauseMs(this.#failures, this.#periodMs),
      round: (signal) => this.#round(signal),
    })
  }

  start(): void {
    this.#loop.start()
  }

  /** Resigns and campaigns no more. */
  async stop(): Promise<void> {
    const ended = this.#loop.stop()
    this.#cancelCampaign()
    await this.stepDown()
    await ended
  }

  /** Pure: true only while the last renewal still holds by the monotonic clock, whatever the timers did. */
  isLeader(): boolean {
    return this.#state.phase === 'leader' && this.#options.clock.now() < this.#state.validUntil
  }

  /** This instance's own term, or null when it does not lead. */
  get fence(): bigint | null {
    return this.#state.phase === 'leader' && this.isLeader() ? this.#state.fence : null
  }

  /** Campaigns at once if there is reason to. */
  poke(): void {
    if (this.#state.phase !== 'leader') this.#loop.poke()
  }

  /** Takes note of the leader key as a watch saw it at `revision`. */
  observe(entry: Entry | null, revision: bigint): void {
    const state = this.#state
    if (state.phase === 'leader') {
      // A watch may lag behind our own transaction: what it knows from before our term says nothing about it.
      if (revision >= state.fence && entry?.created !== state.fence) this.#demote('the leader key changed')
      return
    }
    if (entry !== null) return
    this.#cancelCampaign()
    const { clock, dice } = this.#options
    this.#cancelCampaign = clock.after(dice() * campaignSpreadMs, () => this.#loop.poke())
  }

  /**
   * Writes as the leader: all of `apply` (at most 128) or nothing, and only while the leader key is still ours.
   * Returns the revision of the write, or null when it was refused. Rejects with a StoreError.
   */
  async guarded(apply: readonly Operation[]): Promise<bigint | null> {
    const { store, key } = this.#options
    const fence = this.fence
    if (fence === null) return null
    const { succeeded, revision } = await store.commit({ when: [{ key, created: fence }], apply })
    if (succeeded) return revision
    // Whoever learns of the refusal finds us no leader any more, also when we woke up too late for our timers.
    if (this.#state.phase === 'leader' && this.#state.fence === fence)
      this.#demote('a guarded write was refused')
    return null
  }

  /** Gives up leadership so that another instance wins it at once; this one rests for a period. */
  async stepDown(): Promise<void> {
    if (this.#state.phase === 'leader') this.#options.log.info('leadership given up', this.#term())
    await this.#leave(this.#options.clock.now() + this.#periodMs)
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
    return mayLead() && clock.now() >= restUntil && (await store.get(key)) === null
  }

  async #campaign(signal: AbortSignal): Promise<void> {
    const { store, clock, ttlMs } = this.#options
    const sentAt = clock.now()
    const lease = await store.grant(ttlMs)
    if (signal.aborted) return // the lease runs out, with no key under it
    const validUntil = sentAt + validShare * lease.ttlMs
    const candidate: Candidate = { phase: 'candidate', lease: lease.id, validUntil }
    this.#state = candidate
    await this.#claim(candidate)
  }

  /** Safe to repeat with the same lease: if an answer was lost, the key is found under that very lease. */
  async #claim(candidate: Candidate): Promise<void> {
    const { store, key, id, clock, mayLead } = this.#options
    const { lease, validUntil } = candidate
    if (!mayLead() || clock.now() >= validUntil) return this.#leave(0)
    const { succeeded, revision, found } = await store
      .commit({
        when: [{ key, created: 0n }],
        apply: [{ type: 'put', key, value: id, lease }],
        otherwise: [key],
      })
      .catch((error: unknown) => this.#forsake(candidate, error))
    if (this.#state !== candidate) return
    const holder = found[0] ?? null
    const fence = succeeded ? revision : holder?.lease === lease ? holder.created : null
    if (fence === null || clock.now() >= validUntil) return this.#leave(0)
    this.#lead({ phase: 'leader', lease, validUntil, fence })
    this.#options.log.info('leadership won', this.#term())
    this.#options.changed()
  }

  /** A candidate whose lease is gone begins anew; any other error leaves open what happened, and it asks again. */
  #forsake(candidate: Candidate, error: unknown): never {
    if (isLeaseGone(error) && this.#state === candidate) this.#state = { phase: 'standby', restUntil: 0 }
    throw error
  }

  async #renew(term: Leader): Promise<void> {
    const { store, key, clock } = this.#options
    const sentAt = clock.now()
    if (sentAt >= term.validUntil) return this.#demote('not renewed in time')
    // A renewal alone proves nothing: etcd 3.4 may renew a revoked lease. `otherwise` names a key because etcd answers
    // a transaction without a single read or write from memory, without asking its peers.
    const proof = { when: [{ key, created: term.fence }], apply: [], otherwise: [key] }
    const [leftMs, { succeeded }] = await Promise.all([store.renew(term.lease), store.commit(proof)]).catch(
      (error: unknown) => {
        if (this.#state === term && isLeaseGone(error)) this.#demote('the lease is gone')
        throw error
      },
    )
    if (this.#state !== term) return
    if (!succeeded || leftMs <= 0) return this.#demote('the leader key is not ours any more')
    this.#lead({ ...term, validUntil: sentAt + validShare * leftMs })
  }

  #lead(term: Leader): void {
    const { clock } = this.#options
    this.#state = term
    this.#cancelDeadline()
    this.#cancelDeadline = clock.after(term.validUntil - clock.now(), () =>
      this.#demote('not renewed in time'),
    )
  }

  #demote(reason: string): void {
    const { clock, log } = this.#options
    log.warn('leadership lost', { ...this.#term(), reason })
    void this.#leave(clock.now() + this.#periodMs)
  }

  /** Everything that stops work happens before the first await. An unreachable store is no error: revoked later, or run out. */
  async #leave(restUntil: number): Promise<void> {
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
    if (lease === null) return
    await this.#options.store.revoke(lease)
    if (this.#unrevoked === lease) this.#unrevoked = null
  }

  #term(): { fence: string | null } {
    return { fence: this.#state.phase === 'leader' ? String(this.#state.fence) : null }
  }
}
