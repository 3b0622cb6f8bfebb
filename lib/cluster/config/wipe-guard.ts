import { randomUUID } from 'node:crypto'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Operation, Store } from '../../store/store.ts'
import { allDocuments, type Judged, judge, noDocuments, type StoredDocuments } from './stored-documents.ts'

/**
 * `R/meta/uid`: which store this is. etcd's own cluster id is the same after a wipe (docs/etcd.md#key-layout). The value
 * is the uid, then the uids of the stores that it replaces, separated by spaces.
 */
interface StoreUid {
  readonly id: string
  readonly replaces: readonly string[]
}

/** Why the documents in the store are not put in force. */
interface Doubt {
  readonly kind: 'emptied' | 'foreign'
  /** One sentence for the operator. */
  readonly reason: string
}

/** Documents, and the uid of the store that they come from. */
interface Content<Uid> {
  readonly uid: Uid
  readonly documents: StoredDocuments
}

interface WipeGuardOptions extends Runtime {
  readonly store: Pick<Store, 'kind' | 'list' | 'get' | 'commit'>
  readonly keys: KeyLayout
  /** Called when the lists have confirmed a deletion: offer the documents again, as confirmed. */
  readonly confirmed: () => void
}

/** A deletion of all is confirmed by this many lists in a row, which are this many milliseconds apart. */
const listsNeeded = 3
const listEveryMs = 15_000
/** Milliseconds that a store without a uid is left without one: time to restore a backup. */
const unnamedMs = 60_000
/** Uids of replaced stores that are kept. An instance that missed more acceptances needs another one. */
const maxReplaced = 10
/** Keys named in a reason. */
const maxNamed = 3

/**
 * The wipe guard (docs/etcd.md#mass-deletion) holds the documents in force, and decides whether those in the store may
 * replace them. The store is recognised by its uid.
 *
 *     trusted   the documents in the store are in force; also as long as no uid is known
 *     emptied   same uid, but every node or every API key is gone: a slip, or what the operator wants
 *     foreign   another uid, or none any more: the store was wiped or swapped
 *
 *     trusted -> emptied   no node is left, and an operator had registered some; or no API key is left of several
 *     trusted -> foreign   the uid is another one or gone, and documents in force are missing
 *     emptied -> trusted   a document is back, three lists over 30 s agree, or an operator accepts the store
 *     foreign -> trusted   every document in force is back, or an operator accepts the store
 *     emptied <-> foreign  the uid is gone, or is back
 *
 * An operator accepts a store by a write to it: a new uid that names the one in force as replaced. So every instance
 * that knows that uid trusts the store, also one that does not run at that moment. An embedded store is always trusted:
 * no other process can wipe it.
 */
export class WipeGuard {
  readonly #options: WipeGuardOptions
  readonly #isGuarded: boolean
  readonly #confirmation: ControlLoop
  /** The documents in force, and the uid of their store; null while that is not known. */
  #inForce: Content<string | null> = { uid: null, documents: noDocuments }
  /** Null: trusted. */
  #doubt: Doubt | null = null
  /** Lists in a row that confirm the deletion. */
  #agreed = 0
  /** The store as it was last read, trusted or not. */
  #seen: { readonly uid: string | null; readonly revision: bigint } | null = null
  /** Since when the store has no uid, in monotonic milliseconds. */
  #unnamedSince: number | null = null

  constructor(options: WipeGuardOptions) {
    const { store, clock, random } = options
    this.#options = options
    this.#isGuarded = store.kind === 'etcd'
    this.#confirmation = new ControlLoop({
      clock,
      random,
      periodMs: () => listEveryMs,
      jitter: 0,
      round: (signal) => this.#confirm(signal),
    })
  }

  /** The documents in force. */
  get documents(): StoredDocuments {
    return this.#inForce.documents
  }

  /** The uid of the store that the documents in force come from; null while that is not known. */
  get uid(): string | null {
    return this.#inForce.uid
  }

  /** Why the documents in the store are not in force, in one sentence; null when they are. */
  get suspect(): string | null {
    return this.#doubt?.reason ?? null
  }

  /** Whether the leader may give the store a uid now. */
  get mayName(): boolean {
    if (this.#unnamedSince === null) return false
    return this.uid === null || this.#options.clock.now() - this.#unnamedSince >= unnamedMs
  }

  /** Begins with what an earlier process had in force. */
  restore(uid: string | null, documents: StoredDocuments, revision: bigint): void {
    this.#inForce = { uid, documents }
    this.#seen = { uid, revision }
  }

  stop(): void {
    this.#agreed = 0
    void this.#confirmation.stop()
  }

  /**
   * Notes the store as it is now. Returns whether its history is another one than before, which voids every fence and
   * revision that is known: the store was wiped, swapped or restored from a backup.
   */
  observe(entries: ReadonlyMap<string, Entry>, revision: bigint): boolean {
    const { keys, clock } = this.#options
    const uid = readUid(entries.get(keys.uid))
    const before = this.#seen
    this.#seen = { uid: uid?.id ?? null, revision }
    this.#unnamedSince = uid === null ? (this.#unnamedSince ?? clock.now()) : null
    if (before === null) return false
    const isOther = before.uid !== null && uid?.id !== before.uid && !uid?.replaces.includes(before.uid)
    return isOther || revision < before.revision
  }

  /** Puts the documents among `entries` in force if they may be trusted, or are confirmed. Returns whether it did. */
  offer(entries: ReadonlyMap<string, Entry>, isConfirmed: boolean): boolean {
    const offered = this.#read([...entries.values()], entries.get(this.#options.keys.uid))
    const isTrusted = !this.#isGuarded || isConfirmed
    this.#enter(isTrusted ? null : doubtOf(this.#inForce, offered))
    if (this.#doubt !== null) return false
    this.#inForce = { uid: offered.uid?.id ?? this.uid, documents: offered.documents }
    return true
  }

  /** Declares the store as it is to be what the operator wants, if it is not trusted. Rejects with a StoreError. */
  async accept(): Promise<void> {
    const { store, keys, log } = this.#options
    const { suspect: reason, uid } = this
    if (reason === null || uid === null) return
    await replaceUid(store, keys.uid, uid)
    log.warn('the store was accepted as it is', { reason })
  }

  /** Logs one line per doubt, not one per document that is restored meanwhile. */
  #enter(doubt: Doubt | null): void {
    const { log, metrics } = this.#options
    const before = this.#doubt
    this.#doubt = doubt
    metrics.configSuspect.set(doubt ? 1 : 0)
    if (doubt && doubt.kind !== before?.kind)
      log.error('store suspect: its documents are not put in force, the last good configuration stays', {
        reason: doubt.reason,
        accept: 'POST /admin/v1/config/accept',
      })
    if (before && !doubt) log.info('store trusted again: its documents are in force')
    if (doubt?.kind === 'emptied') this.#confirmation.start()
    else this.stop()
  }

  /** Lists the store itself, since the informer's copy may be wrong. */
  async #confirm(signal: AbortSignal): Promise<void> {
    const { store, keys, confirmed } = this.#options
    const listed = await store.list(keys.root).catch(() => null)
    if (signal.aborted) return
    const uid = listed?.entries.find(({ key }) => key === keys.uid)
    const agrees = listed && doubtOf(this.#inForce, this.#read(listed.entries, uid))?.kind === 'emptied'
    this.#agreed = agrees ? this.#agreed + 1 : 0
    if (this.#agreed >= listsNeeded) confirmed()
  }

  #read(entries: readonly Entry[], uid: Entry | undefined): Content<StoreUid | null> {
    return { uid: readUid(uid), documents: judge(entries, this.#options.keys, this.documents) }
  }
}

function doubtOf(known: Content<string | null>, offered: Content<StoreUid | null>): Doubt | null {
  if (known.uid === null || offered.uid?.replaces.includes(known.uid)) return null
  if (offered.uid?.id === known.uid) return doubtEmptied(known.documents, offered.documents)
  const before = operatorsKeys(allDocuments(known.documents))
  const after = new Set(keysInForce(allDocuments(offered.documents)))
  const lost = before.filter((key) => !after.has(key))
  if (lost.length === 0) return null
  const what = offered.uid === null ? 'the uid of the store is gone' : 'the store is another one by its uid'
  return { kind: 'foreign', reason: `${what}, and it lacks ${list(lost)} of ${before.length} documents` }
}

/** The last API key of all may be revoked, and that takes effect at once: only several are protected. */
function doubtEmptied(known: StoredDocuments, offered: StoredDocuments): Doubt | null {
  const emptied = [
    { what: 'node', least: 1, before: [...known.nodes.values()], after: [...offered.nodes.values()] },
    { what: 'key', least: 2, before: [...known.keys.values()], after: [...offered.keys.values()] },
  ].find(
    ({ least, before, after }) => operatorsKeys(before).length >= least && keysInForce(after).length === 0,
  )
  return emptied ? { kind: 'emptied', reason: `every ${emptied.what} is gone from the store` } : null
}

function keysInForce(documents: readonly Judged<unknown>[]): string[] {
  return documents.filter(({ active }) => active !== null).map(({ key }) => key)
}

/** Without the documents of agents: those are meant to vanish with their hosts. */
function operatorsKeys(documents: readonly Judged<unknown>[]): string[] {
  return keysInForce(documents.filter(({ isLeased }) => !isLeased))
}

function list(keys: readonly string[]): string {
  const named = keys.slice(0, maxNamed).join(', ')
  return `${keys.length} (${named}${keys.length > maxNamed ? ', …' : ''})`
}

/** Null when the store has no uid. */
export function readUid(entry: Entry | undefined | null): StoreUid | null {
  const [id, ...replaces] = entry?.value.split(/\s+/).filter(Boolean) ?? []
  return id === undefined ? null : { id, replaces }
}

/** The write that gives a uid to a store that has none. */
export function nameStore(key: string): Operation {
  return { type: 'put', key, value: randomUUID() }
}

/** Gives the store a new uid that replaces `known`, and all that the former one replaced. */
async function replaceUid(store: Pick<Store, 'get' | 'commit'>, key: string, known: string): Promise<void> {
  for (;;) {
    const entry = await store.get(key)
    const { id, replaces } = readUid(entry) ?? { id: known, replaces: [] }
    const former = [...new Set([known, id, ...replaces])].slice(0, maxReplaced)
    const { succeeded } = await store.commit({
      when: [entry ? { key, modified: entry.modified } : { key, created: 0n }],
      apply: [{ type: 'put', key, value: [randomUUID(), ...former].join(' ') }],
    })
    if (succeeded) return
  }
}
