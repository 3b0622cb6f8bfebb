import { defaultConfig } from '../fleet/config.ts'
import type { Contacts } from '../fleet/contacts.ts'
import { describeFaults } from '../fleet/contents.ts'
import type { NodeSpec, NodeStatus } from '../fleet/node.ts'
import {
  buildSnapshot,
  type CurrentSnapshot,
  type NodeChange,
  type Snapshot,
  withNodes,
} from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry } from '../store/store.ts'
import { Departures } from './departures.ts'
import type { Saved } from './disk-snapshot.ts'
import { DownAdvice } from './down-advice.ts'
import { fleetEvents } from './fleet-events.ts'
import { hasLost, pruneSeries } from './metric-series.ts'
import { allObjects, inForce, isOperatorFolder, judge, noObjects, type Objects, readers } from './objects.ts'
import { addressOf } from './probers.ts'
import { byFolder, readAgent } from './records.ts'
import { readRemembered } from './remembered.ts'
import {
  type Observation,
  ownStatus,
  readStatus,
  readStatuses,
  refusalOf,
  type Sighting,
  statusIn,
} from './statuses.ts'
import { readUid } from './store-uid.ts'
import type { Trust } from './trust.ts'
import { isUnknownKey } from './unknown-keys.ts'

interface WorldOptions {
  readonly keys: Keys
  readonly snapshot: CurrentSnapshot
  readonly trust: Trust
  /** What this instance found out by itself, by node name: it outranks what a leader wrote. */
  readonly own: () => ReadonlyMap<string, Observation | null>
  /** What its requests meet at the nodes: it outweighs the advice that a node is down. */
  readonly contacts: Pick<Contacts, 'of' | 'expectNews' | 'forget'>
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

/** Where the configuration in force comes from. */
export type ConfigSource = 'store' | 'snapshot' | 'none'

type SavedWorld = Omit<Saved, 'instances' | 'confirmedAt'>

/** A status, and the server it was about. */
interface Inherited {
  readonly address: string
  readonly status: NodeStatus
}

/** Turns what is stored into what requests see: judge the documents, build one snapshot, swap it whole. */
export class World {
  readonly #options: WorldOptions
  #source: ConfigSource = 'none'
  /** Of the store when it was last believed. */
  #revision = 0n
  #objects: Objects = noObjects
  #sightings: ReadonlyMap<string, Sighting> = new Map()
  /** Statuses of a former history, or of a former process: they count until a leader has looked at the node. */
  #inherited = new Map<string, Inherited>()
  /** What the next snapshot may be like, as far as `prepare` was shown it; null when nobody looked ahead. */
  #draft: Snapshot | null = null
  readonly #departures: Departures
  readonly #advice: DownAdvice
  /** Revisions of statuses that no leader wrote, by key. */
  readonly #refused = new Map<string, bigint>()

  constructor(options: WorldOptions) {
    this.#options = options
    this.#departures = new Departures(options.clock)
    this.#advice = new DownAdvice(options)
  }

  get source(): ConfigSource {
    return this.#source
  }

  get objects(): Objects {
    return this.#objects
  }

  get sightings(): ReadonlyMap<string, Sighting> {
    return this.#sightings
  }

  /** Whether a change of `key` changes the world. */
  concerns(key: string): boolean {
    const { keys } = this.#options
    const folder = keys.parse(key)?.folder
    return folder === undefined ? isUnknownKey(key, keys) : worldly.has(folder) || isOperatorFolder(folder)
  }

  /** Begins with what an earlier process saved. */
  restore(saved: SavedWorld): void {
    const { keys, trust } = this.#options
    trust.remember(saved.uid, BigInt(saved.revision))
    this.#source = 'snapshot'
    this.#revision = BigInt(saved.revision)
    this.#objects = judge(saved.objects.map(entryOf), keys, noObjects)
    this.#inherit(new Map(Object.entries(saved.statuses)))
    this.#departures.restore(saved.remembered, this.#present(new Map()))
    this.refresh()
  }

  /**
   * Builds the world anew from everything stored. What cannot be believed leaves the documents as they are, unless it is
   * `confirmed`. Returns whether the store's history is another than before: it was wiped, or restored from a backup.
   */
  take(entries: ReadonlyMap<string, Entry>, revision: bigint, confirmed = false): boolean {
    const { keys, trust, metrics } = this.#options
    const uid = readUid(entries.get(keys.uid))
    const isOther = trust.meet(uid, revision)
    if (isOther) this.#inherit(this.#statuses())
    const told = this.read([...entries.values()])
    const isBelieved = trust.believes(confirmed ? noObjects : this.#objects, told, uid)
    if (isBelieved) {
      this.#tell(told)
      this.#objects = told
      this.#revision = revision
      this.#source = 'store'
    }
    const found = byFolder(entries.values(), keys)
    this.#see(found('state/nodes'))
    if (isBelieved) this.#departures.take(readRemembered(found('state/remembered')), this.#present(entries))
    metrics.configStored.set(Number(revision))
    this.refresh()
    return isOther
  }

  /** The same where only statuses, those at `changed`, are others than at `take`: nothing else is looked at. */
  takeStatuses(entries: ReadonlyMap<string, Entry>, revision: bigint, changed: Iterable<string>): void {
    const { keys, trust, snapshot, metrics } = this.#options
    trust.meet(readUid(entries.get(keys.uid)), revision)
    if (trust.doubt === null) this.#revision = revision
    metrics.configStored.set(Number(revision))
    const former = snapshot.get()
    const changes = new Map<string, NodeChange>()
    const sightings = new Map(this.#sightings)
    for (const key of changed) {
      const name = keys.parse(key)?.name ?? ''
      const entry = entries.get(key)
      if (entry) this.#tellRefused(entry)
      if (entry) sightings.set(name, readStatus(entry, this.#sightings.get(name)))
      else sightings.delete(name)
      if (entry) this.#inherited.delete(name)
      changes.set(name, {})
    }
    this.#sightings = sightings
    const own = this.#options.own()
    for (const name of changes.keys()) {
      const { spec, departed } = former.nodes.get(name) ?? {}
      if (spec && !departed) changes.set(name, { status: this.#statusOf(name, spec, own.get(name)) })
    }
    snapshot.swap(withNodes(former, changes, String(this.#revision)))
    this.#measure(former)
  }

  /** Requests to a node began to be answered, or to fail: whether advice about it is believed may change. */
  reconsider(name: string): void {
    const { snapshot, own } = this.#options
    const former = snapshot.get()
    const view = former.nodes.get(name)
    if (!view || !this.#advice.concerns(name)) return
    const status = this.#statusOf(name, view.spec, own().get(name))
    if (status === view.status) return
    snapshot.swap(withNodes(former, new Map([[name, { status }]])))
    this.#measure(former)
  }

  /** Does the work on some entries that `take` will be shown, and finds done then; nothing is put in force. */
  prepare(entries: readonly Entry[]): void {
    const changes = new Map<string, NodeChange>()
    for (const entry of entries) {
      const { folder = '', name = '' } = this.#options.keys.parse(entry.key) ?? {}
      const spec = folder === 'nodes' ? readers.nodes(name, entry) : null
      const status = folder === 'state/nodes' ? statusIn(entry) : null
      if (spec?.ok) changes.set(name, { ...changes.get(name), spec: spec.value })
      if (status) changes.set(name, { ...changes.get(name), status })
      if (isOperatorFolder(folder)) readers[folder](name, entry)
    }
    this.#draft = withNodes(this.#draft ?? this.#options.snapshot.get(), changes)
  }

  /** What these entries say; nothing is put in force. */
  read(entries: readonly Entry[]): Objects {
    return judge(entries, this.#options.keys, this.#objects)
  }

  /** Builds the snapshot anew from what is known. */
  refresh(): void {
    const { snapshot } = this.#options
    const former = snapshot.get()
    const documents = {
      revision: this.#revision,
      config: inForce(this.#objects.config).get('') ?? defaultConfig,
      nodes: inForce(this.#objects.nodes),
      statuses: this.#statuses(),
      departed: this.#departures.nodes,
      routes: inForce(this.#objects.routes),
      keys: inForce(this.#objects.keys),
    }
    const fresh = buildSnapshot(documents, this.#draft ?? former)
    this.#draft = null
    snapshot.swap(fresh)
    this.#measure(former)
  }

  /** What the next process needs to know of the world; null while there is nothing. */
  saved(): SavedWorld | null {
    const { trust, clock } = this.#options
    if (this.#source === 'none') return null
    return {
      uid: trust.uid,
      revision: String(this.#revision),
      savedAt: clock.date().toISOString(),
      objects: allObjects(this.#objects).flatMap(({ key, created, active, isLeased }) =>
        active
          ? [
              {
                key,
                text: active.text,
                created: String(created),
                modified: String(active.revision),
                leased: isLeased,
              },
            ]
          : [],
      ),
      remembered: this.#departures.saved(),
      statuses: Object.fromEntries(this.#statuses()),
    }
  }

  #see(statuses: ReadonlyMap<string, Entry>): void {
    for (const entry of statuses.values()) this.#tellRefused(entry)
    this.#sightings = readStatuses(statuses, this.#sightings)
    for (const name of this.#sightings.keys()) this.#inherited.delete(name)
  }

  /** What tells a node that has departed from one that is registered. */
  #present(entries: ReadonlyMap<string, Entry>): Parameters<Departures['take']>[1] {
    const { keys, snapshot } = this.#options
    const { nodes } = snapshot.get()
    return {
      nodes: this.#objects.nodes,
      agentOf: (name) => readAgent(entries.get(keys.agent(name))?.value ?? ''),
      statusOf: (name) => nodes.get(name)?.status ?? this.#sightings.get(name)?.status ?? null,
    }
  }

  #statuses(): Map<string, NodeStatus> {
    const own = this.#options.own()
    const statuses = new Map<string, NodeStatus>()
    for (const [name, spec] of inForce(this.#objects.nodes)) {
      const status = this.#statusOf(name, spec, own.get(name))
      if (status) statuses.set(name, status)
    }
    return statuses
  }

  /** A node counts as what is known of it best: by us, by the leader of now, by one of before. */
  #statusOf(name: string, spec: NodeSpec, seen: Observation | null | undefined): NodeStatus | null {
    if (seen) return ownStatus(seen, spec)
    const told = this.#sightings.get(name)?.status
    if (told) return this.#advice.weigh(name, told)
    const inherited = this.#inherited.get(name)
    return inherited?.address === addressOf(spec) ? this.#advice.weigh(name, inherited.status) : null
  }

  /** Fences of one history say nothing about those of another: all of them are forgotten. */
  #inherit(statuses: ReadonlyMap<string, NodeStatus>): void {
    this.#sightings = new Map()
    this.#inherited = new Map()
    for (const [name, spec] of inForce(this.#objects.nodes)) {
      const status = statuses.get(name)
      if (status) this.#inherited.set(name, { address: addressOf(spec), status })
    }
  }

  /** One line per text that is not in force, when it appears. */
  #tell(objects: Objects): void {
    const known = new Set(allObjects(this.#objects).map(({ key, stored }) => `${key} ${stored}`))
    for (const { key, stored, active, faults } of allObjects(objects)) {
      if (faults.length === 0 || known.has(`${key} ${stored}`)) continue
      const effect =
        active === null
          ? 'the document is ignored: no version of it was ever valid'
          : `its last valid version, of revision ${active.revision}, stays in force`
      this.#options.log.warn('document rejected', { key, faults: describeFaults(faults), effect })
    }
  }

  /** One line per status that no leader wrote; the leader writes its own over it. */
  #tellRefused(entry: Entry): void {
    const reason = refusalOf(entry)
    if (reason === null) this.#refused.delete(entry.key)
    else if (this.#refused.get(entry.key) !== entry.modified) {
      this.#refused.set(entry.key, entry.modified)
      this.#options.log.warn('the status of a node in the store is refused', { key: entry.key, reason })
    }
  }

  #measure(former: Snapshot): void {
    const { metrics, snapshot, log } = this.#options
    const { nodes, models, revision } = snapshot.get()
    for (const { level, message, fields } of fleetEvents(former.nodes, nodes)) log[level](message, fields)
    metrics.nodesDeparted.set(this.#departures.count)
    if (models !== former.models)
      metrics.digestMismatch.set([...models.values()].filter(({ olderOn }) => olderOn.length > 0).length)
    metrics.configRevision.set(Number(revision))
    metrics.configRejected.set(allObjects(this.#objects).filter(({ faults }) => faults.length > 0).length)
    this.#measureNodes(former, snapshot.get())
    if (hasLost(former, snapshot.get())) void pruneSeries(metrics, () => snapshot.get())
  }

  #measureNodes(former: Snapshot, { nodes }: Snapshot): void {
    const { metrics } = this.#options
    for (const [name, node] of nodes)
      if (former.nodes.get(name) !== node) {
        metrics.nodeUp.set({ node: name }, node.health === 'up' || node.health === 'slow' ? 1 : 0)
        metrics.nodeSlow.set({ node: name }, node.health === 'slow' ? 1 : 0)
      }
    for (const name of former.nodes.keys()) if (!nodes.has(name)) this.#forget(name)
  }

  #forget(name: string): void {
    const { contacts } = this.#options
    this.#advice.forget(name)
    contacts.forget(name)
  }
}

/** Folders besides the operator's that say what is in force. */
const worldly: ReadonlySet<string> = new Set(['state/nodes', 'state/remembered', 'agents', 'meta/uid'])

/** A document as the store had it. Which lease an agent's document lived under is of no use any more. */
function entryOf({ key, text, created, modified, leased }: Saved['objects'][number]): Entry {
  return {
    key,
    value: text,
    created: BigInt(created),
    modified: BigInt(modified),
    lease: leased ? 'former' : null,
  }
}
