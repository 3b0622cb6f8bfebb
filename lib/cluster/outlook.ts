import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry, Store } from '../store/store.ts'
import { ClockSkew } from './clock-skew.ts'
import type { DiskSnapshot, Saved } from './disk-snapshot.ts'
import { doubtOf } from './guard.ts'
import { LastGood } from './last-good.ts'
import { isOperatorFolder, type Objects } from './objects.ts'
import { OwnAdvice } from './own-advice.ts'
import type { Evidence } from './prober.ts'
import { entriesIn, readHeartbeat } from './records.ts'
import { Recount } from './recount.ts'
import type { Sighting } from './statuses.ts'
import { readUid, succeedStore } from './store-uid.ts'
import { Trust } from './trust.ts'
import { type ConfigSource, World } from './world.ts'

interface OutlookOptions {
  readonly store: Store
  readonly keys: Keys
  readonly snapshot: CurrentSnapshot
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  readonly metrics: Metrics
  readonly evidence: Evidence
  /** Whether this instance leads. */
  readonly leads: () => boolean
  /** Where the last good configuration is kept for the next process; left out when the store is on this disk anyway. */
  readonly disk?: Pick<DiskSnapshot, 'load' | 'save'>
}

/** Milliseconds until a change is on the disk: of documents, and of statuses, which change with every model loaded. */
const documentMs = 1000
const statusMs = 10_000

/** The store's content as of one revision. */
interface Copy {
  readonly entries: ReadonlyMap<string, Entry>
  readonly revision: bigint
}

/**
 * What this instance goes by, and where it has it from: the store as long as it can be believed, the disk before the store
 * answers, a leader's advice while one is heard, and else what it sees by itself.
 */
export class Outlook {
  readonly #options: OutlookOptions
  readonly #trust: Trust
  readonly #own: OwnAdvice
  readonly #world: World
  readonly #recount: Recount
  readonly #lastGood: LastGood | null
  readonly #skew: ClockSkew
  #copy: Copy = { entries: new Map(), revision: 0n }
  /** When a leader confirmed what is known, in this process or before; null when nothing is known from before. */
  #confirmedAt: Date | null = null

  constructor(options: OutlookOptions) {
    this.#options = options
    const { store, keys, snapshot, clock, log, disk, evidence } = options
    const { contacts } = evidence
    this.#skew = new ClockSkew(options)
    this.#trust = new Trust({ ...options, isGuarded: store.kind === 'etcd' })
    this.#own = new OwnAdvice({
      ...options,
      snapshot: () => snapshot.get(),
      isWritable: () => (store.condition?.trouble ?? null) === null,
      changed: () => this.#world.refresh(),
    })
    store.condition?.onChange(() => this.#own.reconsider())
    this.#world = new World({ ...options, contacts, trust: this.#trust, own: () => this.#own.observations() })
    contacts.onTurn((node) => this.#world.reconsider(node))
    this.#recount = new Recount({
      ...options,
      prefix: keys.root,
      agrees: (entries) => this.#isEmptied(entries),
      confirmed: () => this.#takeConfirmed(),
    })
    this.#lastGood = disk ? new LastGood({ disk, clock, log, collect: () => this.#collect() }) : null
  }

  get objects(): Objects {
    return this.#world.objects
  }

  get sightings(): ReadonlyMap<string, Sighting> {
    return this.#world.sightings
  }

  get source(): ConfigSource {
    return this.#world.source
  }

  /** Why the store is not believed, in one sentence; null when it is. */
  get suspect(): string | null {
    return this.#trust.doubt?.reason ?? null
  }

  /** Whose health and weights are in force. */
  get advice(): 'leader' | 'own' {
    return this.#own.source
  }

  /** Whether a leader may give the store a uid now. */
  mayName(): boolean {
    return this.#trust.mayName()
  }

  /** Takes what an earlier process saved, before the store is asked. Never rejects. */
  async restore(): Promise<void> {
    const saved = (await this.#options.disk?.load()) ?? null
    if (saved === null) return
    this.#world.restore(saved)
    this.#lastGood?.found(saved)
    const { revision, savedAt, instances, confirmedAt } = saved
    this.#confirmedAt = new Date(confirmedAt ?? 0)
    this.#options.store.sharedBy?.(instances)
    this.#options.log.warn('serving from the snapshot on disk until the store answers', {
      config: 'stale',
      revision,
      savedAt,
    })
  }

  start(): void {
    this.#own.start(this.#confirmedAt)
  }

  /** Probing ends before it returns; the disk has everything when it resolves. */
  async stop(): Promise<void> {
    this.#own.stop()
    this.#recount.stop()
    // Statuses are as old as the last heartbeat, not as the last change of them.
    if (this.#own.heardAt !== null) this.#lastGood?.changed(0)
    await this.#lastGood?.stop()
  }

  /** Looks ahead at some entries of a large change that `follow` will be told of: see `World.prepare`. */
  prepare(entries: readonly Entry[]): void {
    this.#world.prepare(entries)
  }

  /** Follows the store. Returns whether it was wiped, swapped or restored since the last time. */
  follow(copy: Copy, changed: ReadonlySet<string>): boolean {
    const isFirst = this.#copy.revision === 0n
    const isBack = copy.revision < this.#copy.revision
    this.#copy = copy
    const concerned = [...changed].filter((key) => this.#world.concerns(key))
    const isAnew = isFirst || isBack || concerned.some((key) => !this.#isStatus(key))
    const isOther = isAnew ? this.#take(copy, false) : false
    if (!isAnew && concerned.length > 0) this.#world.takeStatuses(copy.entries, copy.revision, concerned)
    // A store that is not believed has a leader that may look after other nodes than ours.
    // The first one seen may be as old as the store.
    if (changed.has(this.#options.keys.heartbeat) && !isFirst && this.suspect === null) this.#hear(copy)
    if (concerned.length > 0) this.#save(concerned)
    return isOther
  }

  /**
   * Declares the store, as it is now, to be what the operator wants: every instance believes it from then on. Without a
   * doubt there is nothing to do. Rejects with a StoreError.
   */
  async accept(): Promise<void> {
    const { store, keys, log } = this.#options
    const reason = this.suspect
    if (reason === null || this.#trust.uid === null) return
    await succeedStore(store, keys.uid, this.#trust.uid)
    log.warn('the store was accepted as it is', { reason })
  }

  /** Reads what changes by time alone into the metrics. */
  measure(): void {
    const { clock, metrics } = this.#options
    const savedAt = this.#lastGood?.savedAt ?? null
    if (savedAt !== null) metrics.snapshotAge.set((clock.date().getTime() - savedAt) / 1000)
    const { heardAt } = this.#own
    if (heardAt !== null) metrics.heartbeatAge.set((clock.now() - heardAt) / 1000)
  }

  /** Only of the leader that is: what others wrote, or an operator by hand, says nothing about the advice. */
  #hear({ entries }: Copy): void {
    const { keys } = this.#options
    const [entry, leader] = [entries.get(keys.heartbeat), entries.get(keys.leader)]
    const heartbeat = entry ? readHeartbeat(entry) : null
    if (!leader || heartbeat?.fence !== leader.created) return
    if (heartbeat.at) this.#skew.heard(leader.value, heartbeat.at)
    this.#confirmedAt = this.#options.clock.date()
    this.#own.heard()
  }

  #collect(): Saved | null {
    const { keys } = this.#options
    const world = this.#world.saved()
    const instances = entriesIn('instances', this.#copy.entries.values(), keys).size
    return world && { ...world, instances, confirmedAt: this.#confirmedAt?.toISOString() ?? null }
  }

  #take({ entries, revision }: Copy, confirmed: boolean): boolean {
    const isOther = this.#world.take(entries, revision, confirmed)
    this.#own.match()
    if (this.#trust.doubt?.kind === 'emptied') this.#recount.start()
    else this.#recount.stop()
    return isOther
  }

  /** The store has said it often enough. */
  #takeConfirmed(): void {
    this.#take(this.#copy, true)
    this.#lastGood?.changed(documentMs)
  }

  #isEmptied(entries: readonly Entry[]): boolean {
    const { keys } = this.#options
    const uid = readUid(entries.find(({ key }) => key === keys.uid))
    const known = { uid: this.#trust.uid, objects: this.objects }
    return doubtOf(known, { uid, objects: this.#world.read(entries) })?.kind === 'emptied'
  }

  #isStatus(key: string): boolean {
    return this.#options.keys.parse(key)?.folder === 'state/nodes'
  }

  #save(changed: readonly string[]): void {
    const { keys } = this.#options
    const isDocument = changed.some((key) => isOperatorFolder(keys.parse(key)?.folder ?? ''))
    this.#lastGood?.changed(isDocument ? documentMs : statusMs)
  }
}
