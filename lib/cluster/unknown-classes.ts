import type { Snapshot } from '../fleet/snapshot.ts'
import { didYouMean } from '../shared/did-you-mean.ts'
import type { Keys } from '../store/keys.ts'

/**
 * What the operator of a route or a key should know of its class, by the key of its document: that the config has none of
 * this name. The document is in force all the same, since either of the two may be written first.
 */
export function noteUnknownClasses({ config, routes, keys }: Snapshot, places: Keys): Map<string, string[]> {
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
