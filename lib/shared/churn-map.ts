/** Removals after which a small roster moves. */
const leastRemovals = 32

/**
 * A Map for what comes and goes with every request. V8 links each table that a Map has outgrown to the next one: once one
 * of them is old, all later ones stay alive until the next full collection, with all that was in them, and the garbage of
 * every request is copied instead of dropped. A roster moves to a new Map before that chain grows long.
 */
export class ChurnMap<K, V> {
  #map = new Map<K, V>()
  #removals = 0

  get size(): number {
    return this.#map.size
  }

  get(key: K): V | undefined {
    return this.#map.get(key)
  }

  has(key: K): boolean {
    return this.#map.has(key)
  }

  set(key: K, value: V): void {
    this.#map.set(key, value)
  }

  /** Whether it was there. */
  delete(key: K): boolean {
    if (!this.#map.delete(key)) return false
    if (++this.#removals > Math.max(leastRemovals, this.#map.size)) {
      this.#map = new Map(this.#map)
      this.#removals = 0
    }
    return true
  }

  /** In the order in which they came. */
  values(): MapIterator<V> {
    return this.#map.values()
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#map[Symbol.iterator]()
  }
}
