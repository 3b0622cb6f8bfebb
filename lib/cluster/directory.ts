import type { InstanceRecord, LoadSummary, Term } from '../fleet/instance.ts'
import type { Folder, Keys } from '../store/keys.ts'
import type { Entry } from '../store/store.ts'
import type { OperatorFolder } from './objects.ts'
import { entriesIn, readInstances, readLoads, readTerms } from './records.ts'
import { readUid } from './trust.ts'
import { warningsIn } from './verdicts.ts'

/** An operator's document as it is stored. */
interface Stored {
  readonly text: string
  readonly modified: bigint
}

/** What the store says of the cluster, as far as known here: read anew at every call, changed by none. */
export class Directory {
  readonly #entries: () => ReadonlyMap<string, Entry>
  readonly #keys: Keys

  /** @param entries everything under the cluster's root. */
  constructor(entries: () => ReadonlyMap<string, Entry>, keys: Keys) {
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

  /** Of the store, in which all instances of the cluster meet; null before it has one. */
  uid(): string | null {
    return readUid(this.#entries().get(this.#keys.uid))?.id ?? null
  }

  /** Every registered instance, by id. */
  instances(): readonly InstanceRecord[] {
    return readInstances(this.folder('instances'))
  }

  /** What each instance is doing, by id. */
  loads(): ReadonlyMap<string, LoadSummary> {
    return readLoads(this.folder('load'))
  }

  /** Who led when, by fence, the newest term first. */
  terms(): ReadonlyMap<bigint, Term> {
    return readTerms(this.folder('history'))
  }

  /** The documents of a folder as they are stored, by name, valid or not. */
  objects(folder: OperatorFolder): ReadonlyMap<string, Stored> {
    const stored = [...this.folder(folder)]
    return new Map(stored.map(([name, { value, modified }]) => [name, { text: value, modified }]))
  }

  /** What the leader's verdict on a document warns of, by the document's key. */
  warnings(key: string): readonly string[] {
    const entries = this.#entries()
    const document = entries.get(key)
    return document ? warningsIn(entries.get(this.#keys.verdict(key)), document.modified) : []
  }

  /** Who registered a node: what an agent writes lives under its lease. */
  nodeSource(name: string): 'operator' | 'agent' {
    const entry = this.#entries().get(this.#keys.node(name))
    return entry === undefined || entry.lease === null ? 'operator' : 'agent'
  }

  /** By name, in the order of names. */
  folder(folder: Folder): ReadonlyMap<string, Entry> {
    const found = entriesIn(folder, this.#entries().values(), this.#keys)
    return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}
