import type { Prefix } from '../../fleet/request-spec.ts'
import type { SchedulingRequest } from '../events.ts'
import type { Residence, Runner } from '../fleet/runner.ts'

/** Runners that are remembered for one prefix: a system prompt is cached in many places. */
const placesKept = 4
/** A long conversation is looked for from its end: so many messages back. */
const depth = 64

interface CachedPrefix {
  readonly runner: Runner
  /** Of the load after which it was cached. */
  readonly residence: Residence
  readonly tokens: number
}

/** Prompt tokens that are expected to be cached, by runner. */
export type CachedTokens = ReadonlyMap<Runner, number>

const none: CachedTokens = new Map()

/**
 * Where conversations were read last: what is cached there need not be read again. Of those that were read last half of `keep`
 * are remembered at least; older ones go together, so that no order of use has to be kept.
 */
export class PrefixIndex {
  readonly #keep: number
  /** By hash; the newest place of a prefix comes first. */
  #recent = new Map<number, readonly CachedPrefix[]>()
  #older = new Map<number, readonly CachedPrefix[]>()

  constructor(keep: number) {
    this.#keep = keep
  }

  /** A runner has read the prompt. */
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
