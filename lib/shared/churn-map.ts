/** Removals after which a small map is copied. */
const leastRemovals = 32

/**
 * A Map for entries that come and go with every request. V8 links each table that a Map has outgrown to the next table.
 * Once one of them is in the old space, all later tables and their entries stay alive until the next full collection, and
 * the garbage of every request is copied instead of dropped. This map is copied to a new Map before that chain grows long.
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

  /** Returns whether the key was there. */
  delete(key: K): boolean {
    if (!this.#map.delete(key)) return false
    if (++this.#removals > Math.max(leastRemovals, this.#map.size)) {
      this.#map = new Map(this.#map)
      this.#removals = 0
    }
    return true
  }

  /** In the order of insertion. */
  values(): MapIterator<V> {
    return this.#map.values()
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#map[Symbol.iterator]()
  }
}
