import type { Prefix } from '../../fleet/request-spec.ts'
import type { SchedulingRequest } from '../events.ts'
import type { Residence, Runner } from '../fleet/runner.ts'

/** Runners kept per prefix: a system prompt is cached in many places. */
const placesKept = 4
/** Prefixes looked up per request, from the longest on. */
const depth = 64

interface CachedPrefix {
  readonly runner: Runner
  /** The load after which it was cached. */
  readonly residence: Residence
  readonly tokens: number
}

/** Prompt tokens that are probably cached, by runner. */
export type CachedTokens = ReadonlyMap<Runner, number>

const none: CachedTokens = new Map()

/**
 * The runners that read each conversation last: their caches save reading it again. Two generations replace an exact order
 * of use: at least half of `keep` prefixes are known, and old ones go together.
 */
export class PrefixIndex {
  readonly #keep: number
  /** By hash; the newest runner of a prefix comes first. */
  #recent = new Map<number, readonly CachedPrefix[]>()
  #older = new Map<number, readonly CachedPrefix[]>()

  constructor(keep: number) {
    this.#keep = keep
  }

  /** A runner has read the prompt of a request. */
  add({ prefixes }: SchedulingRequest, runner: Runner): void {
    const { residence } = runner
    if (!residence) return
    for (const { hash, tokens } of prefixes) {
      const recent = this.#recent.get(hash)
      const places = recent ?? this.#older.get(hash) ?? []
      const [last] = places
      const isKnown = last?.runner === runner && last.residence === residence && last.tokens === tokens
      if (recent && isKnown) continue
      const others = places.filter((place) => place.runner !== runner)
      this.#recent.set(hash, [{ runner, residence, tokens }, ...others.slice(0, placesKept - 1)])
    }
    if (this.#recent.size < this.#keep / 2) return
    this.#older = this.#recent
    this.#recent = new Map()
  }

  /** The longest prefix that each runner has read since it was loaded. */
  cachedTokens({ prefixes }: SchedulingRequest): CachedTokens {
    if (prefixes.length === 0) return none
    const found = new Map<Runner, number>()
    for (let at = prefixes.length - 1; at >= Math.max(0, prefixes.length - depth); at--)
      this.#collect(prefixes[at], found)
    return found.size === 0 ? none : found
  }

  #collect(prefix: Prefix | undefined, found: Map<Runner, number>): void {
    const places = prefix && (this.#recent.get(prefix.hash) ?? this.#older.get(prefix.hash))
    if (!places) return
    for (const { runner, residence, tokens } of places)
      if (runner.residence === residence && !found.has(runner)) found.set(runner, tokens)
  }
}
