import type { ApiKey } from './api-key.ts'
import { type Config, defaultConfig, type RouteSpec } from './config.ts'
import { byName, type ModelView, modelsOf, statusInService } from './models/fleet-models.ts'
import type { LoadedModel, NodeDeparture, NodeSpec, NodeStatus, NodeView } from './node.ts'

export interface RouteView extends RouteSpec {
  readonly name: string
}

export interface ApiKeyView extends ApiKey {
  readonly id: string
}

/** One model in one node's memory. */
export interface Residency {
  readonly node: string
  readonly model: LoadedModel
}

/** The frozen view of fleet and configuration that a request reads once. Built whole, swapped whole. */
export interface Snapshot {
  /** Store revision it was built from, in decimal; "0" before the first list. */
  readonly revision: string
  readonly config: Config
  /** By name. */
  readonly nodes: ReadonlyMap<string, NodeView>
  /** By canonical model name; from every node that is not `off`. */
  readonly models: ReadonlyMap<string, ModelView>
  readonly loaded: readonly Residency[]
  /** In the order they are tried. */
  readonly routes: readonly RouteView[]
  /** By token hash. */
  readonly keys: ReadonlyMap<string, ApiKeyView>
}

/** A node that an agent had registered, as it was last known. */
export interface DepartedNode {
  /** Cordoned: neither a probe nor a request goes to it. */
  readonly spec: NodeSpec
  readonly status: NodeStatus
  readonly departure: NodeDeparture
}

/** The valid documents a snapshot is built from, each under its own name. */
export interface Documents {
  readonly revision: bigint
  readonly config: Config
  readonly nodes: ReadonlyMap<string, NodeSpec>
  readonly statuses: ReadonlyMap<string, NodeStatus>
  /** None of them is among `nodes`. */
  readonly departed: ReadonlyMap<string, DepartedNode>
  readonly routes: ReadonlyMap<string, RouteSpec>
  readonly keys: ReadonlyMap<string, ApiKey>
}

export const emptyDocuments: Documents = {
  revision: 0n,
  config: defaultConfig,
  nodes: new Map(),
  statuses: new Map(),
  departed: new Map(),
  routes: new Map(),
  keys: new Map(),
}

/**
 * Builds the snapshot; pure, so the same documents give the same snapshot on every instance. Unchanged parts are taken over
 * from `former`: any snapshot will do, a similar one saves the work.
 */
export function buildSnapshot(documents: Documents, former: Snapshot = noSnapshot): Snapshot {
  const { config, statuses, departed } = documents
  const registered = [...documents.nodes].map(([name, spec]): [string, NodeView] => {
    const known = { spec, status: statuses.get(name) ?? null, departed: null }
    return [name, viewOf(name, known, config, former.nodes.get(name))]
  })
  const gone = [...departed].map(([name, { spec, status, departure }]): [string, NodeView] => [
    name,
    viewOf(name, { spec, status, departed: departure }, config, former.nodes.get(name)),
  ])
  const nodes = new Map([...registered, ...gone].sort(byName))
  return Object.freeze({
    revision: String(documents.revision),
    config: documents.config,
    nodes,
    models: modelsOf(nodes, former),
    loaded: loadedOn(nodes),
    routes: [...documents.routes].sort(byName).map(([name, route]) => ({ ...route, name })),
    keys: new Map([...documents.keys].map(([id, key]) => [key.hash, { ...key, id }])),
  })
}

/** The change of a node: absent fields stay as they were. */
export interface NodeChange {
  readonly spec?: NodeSpec
  readonly status?: NodeStatus | null
}

/**
 * The same snapshot with some nodes changed; the cost depends on the changed nodes only. New nodes come last, out of order,
 * and need a spec.
 */
export function withNodes(
  former: Snapshot,
  changes: ReadonlyMap<string, NodeChange>,
  revision = former.revision,
): Snapshot {
  const nodes = new Map(former.nodes)
  for (const [name, change] of changes) {
    const before = former.nodes.get(name)
    const spec = change.spec ?? before?.spec
    const status = change.status === undefined ? (before?.status ?? null) : change.status
    const departed = before?.departed ?? null
    if (spec) nodes.set(name, viewOf(name, { spec, status, departed }, former.config, before))
  }
  const models = modelsOf(nodes, former, changes.keys())
  return Object.freeze({ ...former, revision, nodes, models, loaded: loadedOn(nodes) })
}

const noSnapshot: Snapshot = {
  revision: '0',
  config: defaultConfig,
  nodes: new Map(),
  models: new Map(),
  loaded: [],
  routes: [],
  keys: new Map(),
}

function loadedOn(nodes: ReadonlyMap<string, NodeView>): Residency[] {
  const loaded: Residency[] = []
  for (const [name, node] of nodes)
    for (const model of statusInService(node)?.loaded ?? []) loaded.push({ node: name, model })
  return loaded
}

function viewOf(
  name: string,
  known: Pick<NodeView, 'spec' | 'status' | 'departed'>,
  config: Config,
  former: NodeView | undefined,
): NodeView {
  const { spec, status, departed } = known
  const slots = spec.slots ?? config.routing.default_slots
  const isSame = former?.spec === spec && former.status === status && former.departed === departed
  if (isSame && former.slots === slots) return former
  const available = spec.state === 'active' && status !== null
  const isKnown = former !== undefined && former.status === status
  return Object.freeze({
    name,
    spec,
    status,
    departed,
    available,
    health: status?.health ?? 'unknown',
    slots,
    weight: available ? spec.weight : 0,
    onDisk: isKnown
      ? former.onDisk
      : new Map((status?.models ?? []).map((model) => [model.name, model.digest])),
    resident: isKnown ? former.resident : new Map((status?.loaded ?? []).map((model) => [model.name, model])),
  })
}

/** The snapshot in force: the control plane swaps it, the gateway reads it once per request. */
export class CurrentSnapshot {
  #snapshot: Snapshot = buildSnapshot(emptyDocuments)
  #ready = false
  readonly #listeners: (() => void)[] = []

  get(): Snapshot {
    return this.#snapshot
  }

  /** Whether any source has given a snapshot yet: before that, requests cannot be judged. */
  get isReady(): boolean {
    return this.#ready
  }

  swap(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    this.#ready = true
    for (const listener of this.#listeners) listener()
  }

  /** Calls `listener` after every swap, for as long as the process lives. */
  onSwap(listener: () => void): void {
    this.#listeners.push(listener)
  }
}
