import { canonicalName } from '../documents/names.ts'
import { shadowedRoutes } from '../shadowed-routes.ts'
import type { RouteView } from '../snapshot.ts'

/** A name that a route maps to another model. */
export interface Alias {
  /** Canonical. */
  readonly name: string
  /** Canonical name of the model that answers. */
  readonly model: string
}

/** By the list of routes, which is replaced when a route changes. */
const known = new WeakMap<readonly RouteView[], readonly Alias[]>()

/**
 * The aliases that routes make, in their order: an exact name in `match.model`, and a `model` that answers instead. A route
 * that never applies makes none.
 */
export function aliasesOf(routes: readonly RouteView[]): readonly Alias[] {
  const aliases = known.get(routes) ?? findAliases(routes)
  known.set(routes, aliases)
  return aliases
}

function findAliases(routes: readonly RouteView[]): Alias[] {
  const shadowed = shadowedRoutes(routes)
  return routes.filter((route) => !shadowed.has(route)).flatMap(aliasOf)
}

function aliasOf({ match, model }: RouteView): Alias[] {
  const name = match.model.includes('*') ? null : canonicalName(match.model)
  const target = model === undefined ? null : canonicalName(model)
  return name === null || target === null || name === target ? [] : [{ name, model: target }]
}
