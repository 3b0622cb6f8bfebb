import { matchesGlob } from './documents/glob.ts'
import { canonicalName, matchesModel } from './documents/names.ts'
import type { RouteView } from './snapshot.ts'

type Shadows = ReadonlyMap<RouteView, RouteView>

/** Routes with a glob that each route is compared with: of a thousand routes few have one. */
const maxGlobs = 100

/** By the list of routes, which is replaced when a route changes. */
const known = new WeakMap<readonly RouteView[], Shadows>()

/** Routes that never apply, each with an earlier route that matches all that it matches. */
export function shadowedRoutes(routes: readonly RouteView[]): Shadows {
  const shadows = known.get(routes) ?? findShadows(routes)
  known.set(routes, shadows)
  return shadows
}

function findShadows(routes: readonly RouteView[]): Shadows {
  const names = new Map<string, RouteView>()
  const globs: RouteView[] = []
  const shadows = new Map<RouteView, RouteView>()
  for (const route of routes) {
    const { model, tenant } = route.match
    const earlier =
      names.get(nameKey(model, undefined)) ??
      names.get(nameKey(model, tenant)) ??
      globs.find((each) => covers(each, route))
    if (earlier) shadows.set(route, earlier)
    else if (!model.includes('*')) names.set(nameKey(model, tenant), route)
    else if (globs.length < maxGlobs) globs.push(route)
  }
  return shadows
}

function nameKey(model: string, tenant: string | undefined): string {
  return JSON.stringify([canonicalName(model) ?? model, tenant])
}

/** Whether the glob of an earlier route covers all that a later route matches: a "*" of the later is text to the earlier. */
function covers({ match: earlier }: RouteView, { match: later }: RouteView): boolean {
  if (earlier.tenant !== undefined && earlier.tenant !== later.tenant) return false
  if (later.model.includes('*')) return matchesGlob(earlier.model, later.model)
  return matchesModel(earlier.model, canonicalName(later.model) ?? later.model)
}
