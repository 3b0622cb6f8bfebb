import type { ApiKey } from './api-key.ts'
import { type Config, defaultConfig, type RouteSpec } from './config.ts'
import type { InventoryModel, LoadedModel, NodeSpec, NodeStatus, NodeView } from './node.ts'

/** A model and the nodes that have it. */
export interface ModelView {
  readonly name: string
  /** The newest copy by `modified_at`: what `/api/tags` shows when digests differ between nodes. */
  readonly newest: InventoryModel
  /** Names of the nodes that hold it on disk, whatever their health. */
  readonly holders: readonly string[]
  /** Those of them whose copy has another digest than the newest. */
  readonly olderOn: readonly string[]
}

export interface RouteView extends RouteSpec {
  readonly name: string
}

export interface KeyView extends ApiKey {
  readonly id: string
}

/** One model in one node's memory. */
export interface Residency {
  readonly node: string
  readonly model: LoadedModel
}

/** The frozen view of the world that a request reads once. Built whole, swapped whole. */
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
  readonly keys: ReadonlyMap<string, KeyView>
}

/** The valid documents a snapshot is built from, each under its own name. */
export interface Documents {
  readonly revision: bigint
  readonly config: Config
  readonly nodes: ReadonlyMap<string, NodeSpec>
  readonly statuses: ReadonlyMap<string, NodeStatus>
  readonly routes: ReadonlyMap<string, RouteSpec>
  readonly keys: ReadonlyMap<string, ApiKey>
}

export const emptyDocuments: Documents = {
  revision: 0n,
  config: defaultConfig,
  nodes: new Map(),
  statuses: new Map(),
  routes: new Map(),
  keys: new Map(),
}

/** Builds the snapshot; pure, so the same documents give the same world on every instance. */
export function buildSnapshot(documents: Documents): Snapshot {
  const byName = <T>(map: ReadonlyMap<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  const nodes = new Map(byName(documents.nodes).map(([name, spec]) => [name, viewOf(name, spec, documents)]))
  const inService = [...nodes.values()].filter((node) => node.spec.state !== 'off')
  return Object.freeze({
    revision: String(documents.revision),
    config: documents.config,
    nodes,
    models: modelsOf(inService),
    loaded: inService.flatMap((node) =>
      (node.status?.loaded ?? []).map((model) => ({ node: node.name, model })),
    ),
    routes: byName(documents.routes).map(([name, route]) => ({ ...route, name })),
    keys: new Map([...documents.keys].map(([id, key]) => [key.hash, { ...key, id }])),
  })
}

function viewOf(name: string, spec: NodeSpec, documents: Documents): NodeView {
  const status = documents.statuses.get(name) ?? null
  const available = spec.state === 'active' && status?.health === 'up'
  return Object.freeze({
    name,
    spec,
    status,
    available,
    slots: spec.slots ?? documents.config.routing.default_slots,
    weight: available ? spec.weight : 0,
    onDisk: new Map((status?.models ?? []).map((model) => [model.name, model.digest])),
    resident: new Set((status?.loaded ?? []).map((model) => model.name)),
  })
}

function modelsOf(nodes: readonly NodeView[]): Map<string, ModelView> {
  const models = new Map<string, { newest: InventoryModel; holders: string[]; differs: boolean }>()
  for (const node of nodes) {
    for (const model of node.status?.models ?? []) {
      const known = models.get(model.name)
      if (!known) models.set(model.name, { newest: model, holders: [node.name], differs: false })
      else {
        known.holders.push(node.name)
        known.differs ||= model.digest !== known.newest.digest
        if (isNewer(model, known.newest)) known.newest = model
      }
    }
  }
  const byName = new Map(nodes.map((node) => [node.name, node]))
  return new Map(
    [...models].map(([name, { newest, holders, differs }]) => {
      const isOlder = (holder: string) => byName.get(holder)?.onDisk.get(name) !== newest.digest
      return [name, { name, newest, holders, olderOn: differs ? holders.filter(isOlder) : [] }]
    }),
  )
}

/** By the moment, not the text: each node writes dates in its own time zone. Copies of one digest are one version. */
function isNewer(model: InventoryModel, than: InventoryModel): boolean {
  if (model.digest === than.digest) return false
  return (Date.parse(model.modified_at) || 0) > (Date.parse(than.modified_at) || 0)
}

/** Where control meets data: the cluster side swaps it, the gateway reads it once per request. */
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
