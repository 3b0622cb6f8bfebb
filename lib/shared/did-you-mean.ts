import { closest, distance } from 'fastest-levenshtein'

/** Longer names are not compared with the known names. */
const maxNameLength = 100

/** The known name nearest to a misspelt one, or null when none is near enough. */
export function didYouMean(name: string, known: readonly string[]): string | null {
  if (known.length === 0 || name.length > maxNameLength) return null
  const nearest = closest(name, [...known])
  return distance(name, nearest) <= Math.max(2, Math.floor(nearest.length / 3)) ? nearest : null
}
