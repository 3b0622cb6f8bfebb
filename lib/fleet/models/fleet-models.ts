import { isDeepStrictEqual } from 'node:util'
import type { InventoryModel, NodeStatus, NodeView } from '../node.ts'

/** A model and the nodes that have it. */
export interface ModelView {
  readonly name: string
  /** The newest copy by `modified_at`: what `/api/tags` shows when digests differ between nodes. */
  readonly newest: InventoryModel
  /** Names of the nodes that have it on disk, healthy or not. */
  readonly presentOn: readonly string[]
  /** The nodes with another digest than the newest copy. */
  readonly olderOn: readonly string[]
}

type Nodes = ReadonlyMap<string, NodeView>
type Models = ReadonlyMap<string, ModelView>
/** The models on one node's disk, by name. */
type Copies = ReadonlyMap<string, InventoryModel>

/**
 * Every model of the nodes in service, by canonical name, in the order of names. Models that no node gained, lost or
 * changed are taken over from `former`; when no model changed, the map itself is.
 *
 * @param names the nodes that may differ from `former`
 */
export function modelsOf(
  nodes: Nodes,
  former: { readonly nodes: Nodes; readonly models: Models },
  names: Iterable<string> = new Set([...nodes.keys(), ...former.nodes.keys()]),
): Models {
  const changes = changesOf(nodes, former.nodes, names)
  if (changes.size === 0) return former.models
  const models = new Map(former.models)
  let isGrown = false
  for (const [name, touched] of changes) {
    const known = former.models.get(name)
    const view = modelOf(name, known, touched, nodes)
    if (view) models.set(name, view)
    else models.delete(name)
    isGrown ||= !known
  }
  return isGrown ? new Map([...models].sort(byName)) : models
}

/** Sorts entries by their names. */
export function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}

/** The status of a node in service; null for a node that is `off`. */
export function statusInService(node: NodeView | undefined): NodeStatus | null {
  return node && node.spec.state !== 'off' ? node.status : null
}

/** By model, the nodes with a changed, new or removed copy of it. */
function changesOf(nodes: Nodes, former: Nodes, names: Iterable<string>): Map<string, string[]> {
  const changes = new Map<string, string[]>()
  const note = (model: string, node: string) => {
    const touched = changes.get(model)
    if (touched) touched.push(node)
    else changes.set(model, [node])
  }
  const compare = (node: string, before: Copies, after: Copies) => {
    if (before === after) return
    for (const [model, copy] of after) if (!isSame(before.get(model), copy)) note(model, node)
    for (const model of before.keys()) if (!after.has(model)) note(model, node)
  }
  for (const name of names) compare(name, copiesOn(former.get(name)), copiesOn(nodes.get(name)))
  return changes
}

/** The new view of a model, from its former view and the nodes with changed copies. */
function modelOf(
  name: string,
  known: ModelView | undefined,
  touched: readonly string[],
  nodes: Nodes,
): ModelView | null {
  const former = known?.presentOn ?? []
  const isTouched = new Set(touched)
  const kept = former.filter((node) => !isTouched.has(node))
  const now = touched.filter((node) => copiesOn(nodes.get(node)).has(name)).sort()
  // Each copy is compared with the newest before it: nodes behind the known ones need no second look at those.
  const isAppended = kept.length === former.length && (kept.at(-1) ?? '') < (now[0] ?? '')
  const presentOn = isAppended ? [...kept, ...now] : [...kept, ...now].sort()
  const newest = isAppended
    ? newestOf(name, now, known?.newest ?? null, nodes)
    : newestOf(name, presentOn, null, nodes)
  if (!newest) return null
  const isOlder = (node: string) => copiesOn(nodes.get(node)).get(name)?.digest !== newest.digest
  // While the newest copy is the same, only touched copies can change whether they are older.
  const suspects =
    newest.digest === known?.newest.digest
      ? [...known.olderOn.filter((node) => !isTouched.has(node)), ...now].sort()
      : presentOn
  return { name, newest, presentOn, olderOn: suspects.filter(isOlder) }
}

function newestOf(name: string, presentOn: readonly string[], before: InventoryModel | null, nodes: Nodes) {
  let newest = before
  for (const node of presentOn) {
    const copy = copiesOn(nodes.get(node)).get(name)
    if (copy && (!newest || isNewer(copy, newest))) newest = copy
  }
  return newest
}

/** By the list of the status, which never changes. */
const known = new WeakMap<readonly InventoryModel[], Copies>()
const none: Copies = new Map()

/** The models on the disk of a node in service, by name. */
export function copiesOn(node: NodeView | undefined): Copies {
  const models = statusInService(node)?.models
  if (!models) return none
  const copies = known.get(models) ?? new Map(models.map((model) => [model.name, model]))
  known.set(models, copies)
  return copies
}

function isSame(before: InventoryModel | undefined, after: InventoryModel): boolean {
  if (before === after) return true
  return before?.modified_at === after.modified_at && isDeepStrictEqual(before, after)
}

/** Compares moments, not texts: each node writes dates in its own time zone. Copies with one digest are equal. */
function isNewer(model: InventoryModel, than: InventoryModel): boolean {
  if (model.digest === than.digest) return false
  return (Date.parse(model.modified_at) || 0) > (Date.parse(than.modified_at) || 0)
}
