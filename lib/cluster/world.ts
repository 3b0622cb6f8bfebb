import { defaultConfig } from '../fleet/config.ts'
import { describeFaults } from '../fleet/document.ts'
import type { NodeStatus } from '../fleet/node.ts'
import { buildSnapshot, type CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry } from '../store/store.ts'
import { allObjects, inForce, isOperatorFolder, judge, noObjects, type Objects } from './objects.ts'
import { entriesIn } from './records.ts'
import { readStatuses, type Sighting } from './statuses.ts'

interface WorldOptions {
  readonly keys: Keys
  readonly snapshot: CurrentSnapshot
  readonly log: Log
  readonly metrics: Metrics
}

/** Turns what is stored into what requests see: judge the documents, build one snapshot, swap it whole. */
export class World {
  readonly #options: WorldOptions
  #objects: Objects = noObjects
  #sightings: ReadonlyMap<string, Sighting> = new Map()

  constructor(options: WorldOptions) {
    this.#options = options
  }

  get objects(): Objects {
    return this.#objects
  }

  get sightings(): ReadonlyMap<string, Sighting> {
    return this.#sightings
  }

  /** Whether a change of `key` changes the world. */
  concerns(key: string): boolean {
    const folder = this.#options.keys.parse(key)?.folder
    return folder !== undefined && (folder === 'state/nodes' || isOperatorFolder(folder))
  }

  /** Builds the world anew from everything stored. */
  rebuild(entries: ReadonlyMap<string, Entry>, revision: bigint): void {
    const { keys, snapshot } = this.#options
    const objects = judge([...entries.values()], keys, this.#objects)
    this.#tell(objects)
    this.#objects = objects
    this.#sightings = readStatuses(entriesIn('state/nodes', entries.values(), keys), this.#sightings)
    const former = snapshot.get()
    snapshot.swap(
      buildSnapshot({
        revision,
        config: inForce(objects.config).get('') ?? defaultConfig,
        nodes: inForce(objects.nodes),
        statuses: acceptedIn(this.#sightings),
        routes: inForce(objects.routes),
        keys: inForce(objects.keys),
      }),
    )
    this.#measure(former.nodes.keys())
  }

  /** One line per text that is not in force, when it appears. */
  #tell(objects: Objects): void {
    const known = new Set(allObjects(this.#objects).map(({ key, stored }) => `${key} ${stored}`))
    for (const { key, stored, active, faults } of allObjects(objects)) {
      if (faults.length === 0 || known.has(`${key} ${stored}`)) continue
      const inForce = active === null ? 'nothing' : 'the last good version'
      this.#options.log.warn('document rejected', { key, faults: describeFaults(faults), inForce })
    }
  }

  #measure(formerNodes: Iterable<string>): void {
    const { metrics, snapshot } = this.#options
    const { nodes, revision } = snapshot.get()
    metrics.configRevision.set(Number(revision))
    metrics.configRejected.set(allObjects(this.#objects).filter(({ faults }) => faults.length > 0).length)
    for (const { name, status } of nodes.values())
      metrics.nodeUp.set({ node: name }, status?.health === 'up' ? 1 : 0)
    for (const name of formerNodes) if (!nodes.has(name)) void metrics.forgetNode(name)
  }
}

function acceptedIn(sightings: ReadonlyMap<string, Sighting>): Map<string, NodeStatus> {
  return new Map([...sightings].flatMap(([name, { status }]) => (status ? [[name, status] as const] : [])))
}
