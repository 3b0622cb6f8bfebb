import type { ModelOptions } from '../../fleet/caller-options.ts'
import { defaultClass } from '../../fleet/classes.ts'
import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import { canonicalName, matchesModel } from '../../fleet/documents/names.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { RouteView, Snapshot } from '../../fleet/snapshot.ts'

/** The model that the routes give for a name. */
export interface Resolution {
  /** The route that matched. */
  readonly route: RouteView | null
  /** The models that may answer, in order of preference. */
  readonly wanted: readonly string[]
  /** The model that shall answer; null when no node has any of them. */
  readonly model: string | null
  /** A fallback was chosen because no node can serve the first model now. */
  readonly isFallback: boolean
}

/** Resolves a requested canonical name by the routes. Pure: `admit` and `route test` both use it. */
export function resolve(asked: string, tenant: string, snapshot: Snapshot): Resolution {
  const route = snapshot.routes.find((each) => matches(each, asked, tenant)) ?? null
  const first = route?.model ? (canonicalName(route.model) ?? route.model) : asked
  const wanted = [first]
  for (const name of route?.fallback ?? []) wanted.push(canonicalName(name) ?? name)
  // The first that can be served now, else the first that exists: its error says that it is down.
  const model =
    wanted.find((name) => isServed(name, route, snapshot, isWell)) ??
    wanted.find((name) => isServed(name, route, snapshot)) ??
    wanted.find((name) => snapshot.models.has(name)) ??
    null
  return { route, wanted, model, isFallback: model !== first }
}

/** Whether a suitable node could answer. */
export function isServable(
  { model, route }: Resolution,
  snapshot: Snapshot,
  suits: (node: NodeView) => boolean,
): boolean {
  return model !== null && isServed(model, route, snapshot, suits)
}

/** The setting for the context of a model: of the matching route, else of the first match in `models`. */
export function contextSettingOf(
  model: string,
  route: RouteView | null,
  { config }: Snapshot,
): ModelOptions['num_ctx'] {
  return route?.options?.num_ctx ?? config.models.find(({ match }) => matchesModel(match, model))?.num_ctx
}

/** The class of a request: of the route, else of the key; "default" when the configuration has no such class. */
export function classOf(route: RouteView | null, ofKey: string | undefined, { config }: Snapshot): string {
  const wanted = route?.class ?? ofKey
  return config.classes.find(({ name }) => name === wanted)?.name ?? defaultClass
}

/** The context that a request is sent with, when it asks for `asked`; undefined: the node decides. */
export function contextIn(setting: ModelOptions['num_ctx'], asked: number | undefined): number | undefined {
  if (typeof setting === 'number') return setting
  return setting && asked !== undefined ? Math.min(asked, setting.max) : asked
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
  const having = snapshot.models.get(model)?.presentOn ?? []
  return having.some((name) => {
    const node = snapshot.nodes.get(name)
    if (node === undefined || !(node.weight > 0) || !suits(node)) return false
    return matchesLabels(route?.nodes ?? {}, node.spec.labels)
  })
}

function isWell({ health }: NodeView): boolean {
  return health !== 'down'
}
