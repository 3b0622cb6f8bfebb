import type { Contacts } from '../../fleet/contacts.ts'
import type { NodeSpec, NodeStatus } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Entry } from '../../store/store.ts'
import { DownAdvice } from '../probing/down-advice.ts'
import type { FallbackProber } from '../probing/fallback-prober.ts'
import { addressOf } from '../probing/probers.ts'
import {
  type Observation,
  ownStatus,
  readStatus,
  readStatuses,
  refusalOf,
  type StoredStatus,
} from '../probing/stored-status.ts'

interface NodeStatusesOptions {
  /** Its observations outrank what a leader wrote. */
  readonly fallback: Pick<FallbackProber, 'observations'>
  readonly contacts: Pick<Contacts, 'of' | 'expectNews'>
  readonly clock: Clock
  readonly log: Log
}

/** A status, and the server that it describes. */
interface Inherited {
  readonly address: string
  readonly status: NodeStatus
}

/**
 * Decides which status of a node is in force. In this order: what this instance probed itself, what the leader wrote, and
 * what an earlier leader of another history, or an earlier process, knew.
 */
export class NodeStatuses {
  readonly #options: NodeStatusesOptions
  readonly #advice: DownAdvice
  #stored: ReadonlyMap<string, StoredStatus> = new Map()
  /** Each counts until a leader has written a status of the node. */
  #inherited = new Map<string, Inherited>()
  /** Revisions of statuses that no leader wrote, by key. */
  readonly #refused = new Map<string, bigint>()

  constructor(options: NodeStatusesOptions) {
    this.#options = options
    this.#advice = new DownAdvice(options)
  }

  /** The statuses in the store, by node name. */
  get stored(): ReadonlyMap<string, StoredStatus> {
    return this.#stored
  }

  /** The statuses in force of these nodes. A node without any status is left out. */
  of(nodes: ReadonlyMap<string, NodeSpec>): Map<string, NodeStatus> {
    const observations = this.#options.fallback.observations()
    const statuses = new Map<string, NodeStatus>()
    for (const [name, spec] of nodes) {
      const status = this.#statusOf(name, spec, observations.get(name))
      if (status) statuses.set(name, status)
    }
    return statuses
  }

  /** Takes over all statuses in the store, by node name. */
  replace(entries: ReadonlyMap<string, Entry>): void {
    for (const entry of entries.values()) this.#logRefusal(entry)
    this.#stored = readStatuses(entries, this.#stored)
    for (const name of this.#stored.keys()) this.#inherited.delete(name)
  }

  /** Takes over single changes of statuses in the store; null: the status is gone. */
  update(changes: ReadonlyMap<string, Entry | null>): void {
    const stored = new Map(this.#stored)
    for (const [name, entry] of changes) {
      if (!entry) {
        stored.delete(name)
        continue
      }
      this.#logRefusal(entry)
      stored.set(name, readStatus(entry, this.#stored.get(name)))
      this.#inherited.delete(name)
    }
    this.#stored = stored
  }

  /** Keeps `statuses` for now, and forgets those in the store: fences of two histories cannot be compared. */
  inherit(statuses: ReadonlyMap<string, NodeStatus>, nodes: ReadonlyMap<string, NodeSpec>): void {
    this.#stored = new Map()
    this.#inherited = new Map()
    for (const [name, spec] of nodes) {
      const status = statuses.get(name)
      if (status) this.#inherited.set(name, { address: addressOf(spec), status })
    }
  }

  /** Whether requests of this instance may contradict the status of the node. */
  isContestable(name: string): boolean {
    return this.#advice.isAdvisedDown(name)
  }

  /** Forgets a node that left the fleet. */
  forget(name: string): void {
    this.#advice.forget(name)
  }

  #statusOf(name: string, spec: NodeSpec, observed: Observation | null | undefined): NodeStatus | null {
    if (observed) return ownStatus(observed, spec)
    const told = this.#stored.get(name)?.status
    if (told) return this.#advice.weigh(name, told)
    const inherited = this.#inherited.get(name)
    return inherited?.address === addressOf(spec) ? this.#advice.weigh(name, inherited.status) : null
  }

  /** Logs one line per status that no leader wrote. The leader replaces it by its own. */
  #logRefusal(entry: Entry): void {
    const reason = refusalOf(entry)
    if (reason === null) this.#refused.delete(entry.key)
    else if (this.#refused.get(entry.key) !== entry.modified) {
      this.#refused.set(entry.key, entry.modified)
      this.#options.log.warn('status of a node ignored: no leader wrote it', { key: entry.key, reason })
    }
  }
}
