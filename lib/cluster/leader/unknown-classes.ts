import type { Snapshot } from '../../fleet/snapshot.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import type { KeyLayout } from '../../store/key-layout.ts'

/**
 * Warnings about routes and keys with a class that is not in the config, by the key of the document. The documents are in
 * force all the same, since the route or key may be written before the class.
 */
export function noteUnknownClasses(
  { config, routes, keys }: Snapshot,
  places: KeyLayout,
): Map<string, string[]> {
  const known = config.classes.map(({ name }) => name)
  const documents = [
    ...routes.map((route) => [places.route(route.name), route.class] as const),
    ...[...keys.values()].map((key) => [places.apiKey(key.id), key.class] as const),
  ]
  const notes = new Map<string, string[]>()
  for (const [place, named] of documents)
    if (named !== undefined && !known.includes(named)) notes.set(place, [noteOn(named, known)])
  return notes
}

function noteOn(named: string, known: readonly string[]): string {
  const meant = didYouMean(named, known)
  const hint = meant ? `did you mean "${meant}"?` : `there are ${known.join(', ')}`
  return `class "${named}" is not among the classes of the config, so "default" is in force instead; ${hint}`
}
