import { defaultConfig } from '../../fleet/config.ts'
import type { Contacts } from '../../fleet/contacts.ts'
import {
  buildSnapshot,
  type CurrentSnapshot,
  type NodeChange,
  type Snapshot,
  withNodes,
} from '../../fleet/snapshot.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import type { FallbackProber } from '../probing/fallback-prober.ts'
import { statusIn } from '../probing/stored-status.ts'
import { byFolder, entriesIn, readAgent } from '../records.ts'
import { Departures } from './departures.ts'
import { fleetEvents } from './fleet-events.ts'
import { measureSnapshot } from './metric-series.ts'
import { NodeStatuses } from './node-statuses.ts'
import { readRemembered } from './remembered-nodes.ts'
import type { SnapshotCache } from './snapshot-cache.ts'
import { entriesOf, type Saved, savedDocuments } from './snapshot-file.ts'
import {
  inForce,
  isOperatorFolder,
  judge,
  newlyRejected,
  noDocuments,
  readers,
  rejectedIn,
  type StoredDocuments,
} from './stored-documents.ts'
import { isUnknownKey } from './unknown-keys.ts'
import { WipeGuard } from './wipe-guard.ts'

interface SnapshotBuilderOptions extends Runtime {
  readonly store: ConstructorParameters<typeof WipeGuard>[0]['store']
  readonly keys: KeyLayout
  readonly snapshot: CurrentSnapshot
  /** Its observations outrank what a leader wrote. */
  readonly fallback: Pick<FallbackProber, 'observations' | 'match' | 'confirmedAt'>
  /** Keeps what is in force for the next process; null where nothing is kept. */
  readonly cache: Pick<SnapshotCache, 'saveWithin'> | null
  /** What the requests of this instance meet at the nodes: it outweighs the advice that a node is down. */
  readonly contacts: Pick<Contacts, 'of' | 'expectNews' | 'forget' | 'onTurn'>
}

/** Where the configuration in force comes from. */
export type ConfigSource = 'store' | 'snapshot' | 'none'

/** The store's content as of one revision. */
interface Copy {
  readonly entries: ReadonlyMap<string, Entry>
  readonly revision: bigint
}

/** Milliseconds until a change is on the disk: of documents, and of statuses, which change with every model loaded. */
const saveDocumentsMs = 1000
const saveStatusesMs = 10_000
/** Folders besides the operator's that the snapshot is built from. */
const otherFolders: ReadonlySet<string> = new Set(['state/nodes', 'state/remembered', 'agents', 'meta/uid'])

/**
 * Turns the store's content into what requests see: judge the documents, have the guard decide whether they may be in
 * force, find the status of each node, build one snapshot and swap it whole. Where only statuses changed, only their
 * nodes are built again.
 */
export class SnapshotBuilder {
  readonly #options: SnapshotBuilderOptions
  readonly #guard: WipeGuard
  readonly #statuses: NodeStatuses
  readonly #departures: Departures
  #source: ConfigSource = 'none'
  #copy: Copy = { entries: new Map(), revision: 0n }
  /** Revision of the newest copy that was trusted. */
  #revision = 0n
  /** The next snapshot as far as `prepare` built it ahead from the one in force; null when it did not. */
  #draft: Snapshot | null = null

  constructor(options: SnapshotBuilderOptions) {
    const { contacts, clock, cache } = options
    this.#options = options
    this.#guard = new WipeGuard({
      ...options,
      confirmed: () => {
        this.#rebuild(true)
        cache?.saveWithin(saveDocumentsMs)
      },
    })
    this.#statuses = new NodeStatuses(options)
    this.#departures = new Departures(clock)
    contacts.onTurn((node) => this.#reconsider(node))
  }

  get source(): ConfigSource {
    return this.#source
  }

  /** The documents in force, and what is wrong with those that are not. */
  get documents(): StoredDocuments {
    return this.#guard.documents
  }

  /** Why the documents in the store are not in force, in one sentence; null when they are. */
  get suspect(): string | null {
    return this.#guard.suspect
  }

  /** What the leader's work starts from. */
  view() {
    return {
      snapshot: this.#options.snapshot.get(),
      documents: this.documents,
      suspect: this.suspect,
      mayName: this.#guard.mayName,
      storedStatuses: this.#statuses.stored,
      ...this.#copy,
    }
  }

  /** Begins with what an earlier process saved. */
  restore(saved: Saved): void {
    const { uid, revision, statuses, remembered } = saved
    const documents = judge(entriesOf(saved), this.#options.keys, noDocuments)
    this.#source = 'snapshot'
    this.#revision = BigInt(revision)
    this.#guard.restore(uid, documents, this.#revision)
    this.#statuses.inherit(new Map(Object.entries(statuses)), inForce(documents.nodes))
    this.#departures.restore(remembered, this.#present())
    this.refresh()
  }

  stop(): void {
    this.#guard.stop()
  }

  /** Accepts a store that is suspect as it is, for every instance. Rejects with a StoreError. */
  async accept(): Promise<void> {
    await this.#guard.accept()
  }

  /**
   * Follows the store, in which the entries of some keys changed. Returns whether its history is another than before: it
   * was wiped, swapped, or restored from a backup.
   */
  follow(copy: Copy, changed: ReadonlySet<string>): boolean {
    const before = this.#copy.revision
    this.#copy = copy
    const concerned = [...changed].filter((key) => this.#concerns(key))
    const areStatuses = concerned.every((key) => this.#folderOf(key) === 'state/nodes')
    const isWhole = before === 0n || copy.revision < before || !areStatuses
    const isOtherHistory = isWhole && this.#rebuild(false)
    if (!isWhole && concerned.length > 0) this.#updateStatuses(concerned)
    const hasDocument = concerned.some((key) => isOperatorFolder(this.#folderOf(key)))
    if (concerned.length > 0) this.#options.cache?.saveWithin(hasDocument ? saveDocumentsMs : saveStatusesMs)
    return isOtherHistory
  }

  /** Parses an entry ahead, so that the others find it parsed. */
  read(entry: Entry): void {
    const { folder = '', name = '' } = this.#options.keys.parse(entry.key) ?? {}
    if (folder === 'state/nodes') statusIn(entry)
    else if (isOperatorFolder(folder)) readers[folder](name, entry)
  }

  /** Builds some entries ahead, so that `follow` finds them done. Puts nothing in force. */
  prepare(entries: readonly Entry[]): void {
    const changes = new Map<string, NodeChange>()
    for (const entry of entries) {
      const { folder = '', name = '' } = this.#options.keys.parse(entry.key) ?? {}
      const spec = folder === 'nodes' ? readers.nodes(name, entry) : null
      const status = folder === 'state/nodes' ? statusIn(entry) : null
      if (spec?.ok) changes.set(name, { ...changes.get(name), spec: spec.value })
      if (status) changes.set(name, { ...changes.get(name), status })
    }
    if (changes.size > 0) this.#draft = withNodes(this.#draft ?? this.#options.snapshot.get(), changes)
  }

  /** Builds the snapshot from what is known. */
  refresh(): void {
    const { snapshot, metrics } = this.#options
    const former = snapshot.get()
    const nodes = inForce(this.documents.nodes)
    const documents = {
      revision: this.#revision,
      config: inForce(this.documents.config).get('') ?? defaultConfig,
      nodes,
      statuses: this.#statuses.of(nodes),
      departed: this.#departures.nodes,
      routes: inForce(this.documents.routes),
      keys: inForce(this.documents.keys),
    }
    const fresh = buildSnapshot(documents, this.#draft ?? former)
    metrics.configRejected.set(rejectedIn(this.documents).length)
    this.#swap(fresh)
  }

  /** What the next process needs to serve without the store; null while nothing is in force. */
  saved(): Saved | null {
    const { clock, keys, fallback } = this.#options
    if (this.#source === 'none') return null
    return {
      uid: this.#guard.uid,
      revision: String(this.#revision),
      savedAt: clock.date().toISOString(),
      instances: entriesIn('instances', this.#copy.entries.values(), keys).size,
      confirmedAt: fallback.confirmedAt?.toISOString() ?? null,
      objects: savedDocuments(this.documents),
      remembered: this.#departures.saved(),
      statuses: Object.fromEntries(this.#statuses.of(inForce(this.documents.nodes))),
    }
  }

  /** Builds everything from the copy. Returns whether the history of the store is another than before. */
  #rebuild(isConfirmed: boolean): boolean {
    const { keys, metrics, fallback, log } = this.#options
    const { entries, revision } = this.#copy
    const former = this.documents
    const isOtherHistory = this.#guard.observe(entries, revision)
    if (isOtherHistory) this.#inherit()
    const isTrusted = this.#guard.offer(entries, isConfirmed)
    const found = byFolder(entries.values(), keys)
    this.#statuses.replace(found('state/nodes'))
    if (isTrusted) {
      for (const rejected of newlyRejected(former, this.documents)) log.warn('document rejected', rejected)
      this.#revision = revision
      this.#source = 'store'
      this.#departures.update(readRemembered(found('state/remembered')), this.#present())
    }
    metrics.configStored.set(Number(revision))
    this.refresh()
    fallback.match()
    return isOtherHistory
  }

  /** Builds the nodes with changed statuses; the copy holds the same documents as before. */
  #updateStatuses(changed: readonly string[]): void {
    const { keys, snapshot, metrics } = this.#options
    const { entries, revision } = this.#copy
    this.#guard.observe(entries, revision)
    if (this.suspect === null) this.#revision = revision
    metrics.configStored.set(Number(revision))
    const former = snapshot.get()
    const updates = new Map(
      changed.map((key) => [keys.parse(key)?.name ?? '', entries.get(key) ?? null] as const),
    )
    this.#statuses.update(updates)
    const views = [...updates.keys()].flatMap((name) => former.nodes.get(name) ?? [])
    const specs = new Map(
      views.filter(({ departed }) => !departed).map(({ name, spec }) => [name, spec] as const),
    )
    const statuses = this.#statuses.of(specs)
    // A departed node keeps its status; the draft may have another one.
    const changes = new Map(
      views.map(({ name, departed, status }) => [
        name,
        { status: departed ? status : (statuses.get(name) ?? null) },
      ]),
    )
    this.#swap(withNodes(this.#draft ?? former, changes, String(this.#revision)))
  }

  /** Called when requests to a node begin to be answered or to fail: its status in force may change. */
  #reconsider(name: string): void {
    const former = this.#options.snapshot.get()
    const view = former.nodes.get(name)
    if (!view || !this.#statuses.isContestable(name)) return
    const status = this.#statuses.of(new Map([[name, view.spec]])).get(name) ?? null
    if (status !== view.status) this.#swap(withNodes(former, new Map([[name, { status }]])))
  }

  /** Statuses of another history count for the servers that they describe, until a leader has written newer ones. */
  #inherit(): void {
    const nodes = inForce(this.documents.nodes)
    this.#statuses.inherit(this.#statuses.of(nodes), nodes)
  }

  /** What the departures are derived from. */
  #present(): Parameters<Departures['update']>[1] {
    const { keys, snapshot } = this.#options
    const { nodes } = snapshot.get()
    return {
      nodes: this.documents.nodes,
      agentOf: (name) => readAgent(this.#copy.entries.get(keys.agent(name))?.value ?? ''),
      statusOf: (name) => nodes.get(name)?.status ?? this.#statuses.stored.get(name)?.status ?? null,
    }
  }

  #swap(fresh: Snapshot): void {
    const { metrics, snapshot, contacts, log } = this.#options
    const former = snapshot.get()
    this.#draft = null
    snapshot.swap(fresh)
    for (const { level, message, fields } of fleetEvents(former.nodes, fresh.nodes))
      log[level](message, fields)
    metrics.nodesDeparted.set(this.#departures.count)
    measureSnapshot(metrics, former, snapshot)
    for (const name of former.nodes.keys()) {
      if (fresh.nodes.has(name)) continue
      this.#statuses.forget(name)
      contacts.forget(name)
    }
  }

  #concerns(key: string): boolean {
    const { keys } = this.#options
    const folder = keys.parse(key)?.folder
    return folder === undefined
      ? isUnknownKey(key, keys)
      : otherFolders.has(folder) || isOperatorFolder(folder)
  }

  #folderOf(key: string): string {
    return this.#options.keys.parse(key)?.folder ?? ''
  }
}
