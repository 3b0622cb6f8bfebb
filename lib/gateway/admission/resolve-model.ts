import type { ModelOptions } from '../../fleet/caller-options.ts'
import { defaultClass } from '../../fleet/classes.ts'
import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import { canonicalName, matchesModel } from '../../fleet/documents/names.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { RouteView, Snapshot } from '../../fleet/snapshot.ts'

/** What the routes make of a model's name. */
export interface Resolution {
  /** The route that matched. */
  readonly route: RouteView | null
  /** The models that may answer, in the order they are wanted. */
  readonly wanted: readonly string[]
  /** The one that shall answer; null when no node has any of them. */
  readonly model: string | null
  /** The first of the wanted was replaced because no node can serve it now. */
  readonly isFallback: boolean
}

/** Which model shall answer a request for `asked` (a canonical name). Pure: `admit` and `route test` both go by it. */
export function resolve(asked: string, tenant: string, snapshot: Snapshot): Resolution {
  const route = snapshot.routes.find((each) => matches(each, asked, tenant)) ?? null
  const first = route?.model ? (canonicalName(route.model) ?? route.model) : asked
  const wanted = [first]
  for (const name of route?.fallback ?? []) wanted.push(canonicalName(name) ?? name)
  // One that can be served now, else one that exists at all: its callers are told that it is down.
  const model =
    wanted.find((name) => isServed(name, route, snapshot, isWell)) ??
    wanted.find((name) => isServed(name, route, snapshot)) ??
    wanted.find((name) => snapshot.models.has(name)) ??
    null
  return { route, wanted, model, isFallback: model !== first }
}

/** Whether a node that suits could answer what was resolved. */
export function isServable(
  { model, route }: Resolution,
  snapshot: Snapshot,
  suits: (node: NodeView) => boolean,
): boolean {
  return model !== null && isServed(model, route, snapshot, suits)
}

/** What the context of a model's requests is set to: by the route that matched, else by the first match in `models`. */
export function contextRule(
  model: string,
  route: RouteView | null,
  { config }: Snapshot,
): ModelOptions['num_ctx'] {
  return route?.options?.num_ctx ?? config.models.find(({ match }) => matchesModel(match, model))?.num_ctx
}

/** The class of a request: the route's, else its key's; "default" when that is none of the config's. */
export function classOf(route: RouteView | null, ofKey: string | undefined, { config }: Snapshot): string {
  const wanted = route?.class ?? ofKey
  return config.classes.find(({ name }) => name === wanted)?.name ?? defaultClass
}

/** The context a request is sent with, when `asked` is what it says itself; undefined: the node's own. */
export function contextIn(rule: ModelOptions['num_ctx'], asked: number | undefined): number | undefined {
  if (typeof rule === 'number') return rule
  return rule && asked !== undefined ? Math.min(asked, rule.max) : asked
}

function matches({ match }: RouteView, model: string, tenant: string): boolean {
  return matchesModel(match.model, model) && (match.tenant === undefined || match.tenant === tenant)
}

function isServed(
  model: string,
  route: RouteView | null,
  snapshot: Snapshot,
  suits: (node: NodeView) => boolean = () => true,
): boolean {
  const holders = snapshot.models.get(model)?.holders ?? []
  return holders.some((name) => {
    const node = snapshot.nodes.get(name)
    if (node === undefined || !(node.weight > 0) || !suits(node)) return false
    return matchesLabels(route?.nodes ?? {}, node.spec.labels)
  })
}

function isWell({ health }: NodeView): boolean {
  return health !== 'down'
}
