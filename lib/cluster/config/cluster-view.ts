import type { InstanceRecord, LoadSummary, RememberedInstance, Term } from '../../fleet/instance.ts'
import type { Folder, KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import { entriesIn, readInstances, readLoads, readRememberedInstance, readTerms } from '../records.ts'
import type { OperatorFolder } from './stored-documents.ts'
import { warningsIn } from './verdicts.ts'
import { readUid } from './wipe-guard.ts'

/** An operator's document as it is stored. */
interface Stored {
  readonly text: string
  readonly modified: bigint
}

/** Read access to the informer's copy of the store. Each call reads the copy as it is then. */
export class ClusterView {
  readonly #entries: () => ReadonlyMap<string, Entry>
  readonly #keys: KeyLayout

  /** @param entries everything under the cluster's root. */
  constructor(entries: () => ReadonlyMap<string, Entry>, keys: KeyLayout) {
    this.#entries = entries
    this.#keys = keys
  }

  /** The leader key: its value is the leader's id, its create revision the fence. */
  leaderEntry(): Entry | null {
    return this.#entries().get(this.#keys.leader) ?? null
  }

  /** Id of the leader. */
  leader(): string | null {
    return this.leaderEntry()?.value ?? null
  }

  /** The leader's term. */
  leaderFence(): bigint | null {
    return this.leaderEntry()?.created ?? null
  }

  /** The uid of the store, the same for all instances of the cluster; null before it has one. */
  uid(): string | null {
    return readUid(this.#entries().get(this.#keys.uid))?.id ?? null
  }

  /** Every registered instance, by id. */
  instances(): readonly InstanceRecord[] {
    return readInstances(this.folder('instances'))
  }

  /** The instances that ended within a day and are not registered, the last one first. */
  missing(): readonly (NonNullable<RememberedInstance['ended']> & {
    readonly id: string
    readonly host: string
  })[] {
    const registered = new Set(this.instances().map(({ id }) => id))
    const ended = [...this.folder('state/instances')].flatMap(([id, entry]) => {
      const known = registered.has(id) ? null : readRememberedInstance(entry)
      return known?.ended ? [{ id, host: known.host, ...known.ended }] : []
    })
    return ended.sort((a, b) => (a.since > b.since ? -1 : 1))
  }

  /** Load summary of each instance, by id. */
  loads(): ReadonlyMap<string, LoadSummary> {
    return readLoads(this.folder('load'))
  }

  /** The terms of leaders, by fence, the newest first. */
  terms(): ReadonlyMap<bigint, Term> {
    return readTerms(this.folder('history'))
  }

  /** The stored documents of a folder, by name, valid or not. */
  documents(folder: OperatorFolder): ReadonlyMap<string, Stored> {
    const stored = [...this.folder(folder)]
    return new Map(stored.map(([name, { value, modified }]) => [name, { text: value, modified }]))
  }

  /** The warnings in the leader's verdict on a document. */
  warnings(key: string): readonly string[] {
    const entries = this.#entries()
    const document = entries.get(key)
    return document ? warningsIn(entries.get(this.#keys.verdict(key)), document.modified) : []
  }

  /** The origin of a node's document: an agent puts it under a lease. */
  nodeSource(name: string): 'operator' | 'agent' {
    const entry = this.#entries().get(this.#keys.node(name))
    return entry === undefined || entry.lease === null ? 'operator' : 'agent'
  }

  /** The entries of a folder, sorted by name. */
  folder(folder: Folder): ReadonlyMap<string, Entry> {
    const found = entriesIn(folder, this.#entries().values(), this.#keys)
    return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}
