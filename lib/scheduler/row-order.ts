/** Rows of a table from the lowest floor up, kept in order as floors move; of equal floors the first row comes first. */
export class RowOrder {
  readonly #floors: Float64Array
  readonly #rows: Int32Array

  /** @param length of the table; every row begins at Infinity. */
  constructor(length: number) {
    this.#floors = new Float64Array(length).fill(Number.POSITIVE_INFINITY)
    this.#rows = Int32Array.from({ length }, (_, row) => row)
  }

  get length(): number {
    return this.#rows.length
  }

  rowAt(nth: number): number {
    return this.#rows[nth] ?? -1
  }

  /** Of the nth row. */
  floorAt(nth: number): number {
    return this.#floors[this.rowAt(nth)] ?? Number.POSITIVE_INFINITY
  }

  move(row: number, floor: number): void {
    const before = this.#floors[row] ?? 0
    if (floor === before) return
    const from = this.#placeOf(row, before)
    const to = this.#placeOf(row, floor)
    this.#floors[row] = floor
    // Whoever moves up leaves its own place below, and is not in its own way.
    if (to > from) this.#shift(row, from, to - 1)
    else this.#shift(row, from, to)
  }

  #shift(row: number, from: number, to: number): void {
    if (to > from) this.#rows.copyWithin(from, from + 1, to + 1)
    else this.#rows.copyWithin(to + 1, to, from)
    this.#rows[to] = row
  }

  /** How many rows come before this one if it has that floor. */
  #placeOf(row: number, floor: number): number {
    let [low, high] = [0, this.#rows.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const other = this.rowAt(middle)
      const theirs = this.#floors[other] ?? 0
      if (theirs < floor || (theirs === floor && other < row)) low = middle + 1
      else high = middle
    }
    return low
  }
}
