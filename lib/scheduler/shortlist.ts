import type { Dice } from '../shared/loop.ts'

/** Rows that cost about as little as the cheapest one. */
export class Shortlist {
  readonly #tie: number
  readonly #rows: number[] = []
  readonly #costs: number[] = []
  /** Whatever costs more is not on it. Never Infinity: where nobody knows the start is no place. */
  limit = Number.MAX_VALUE

  /** @param tie costs that differ by this share are equal. */
  constructor(tie: number) {
    this.#tie = tie
  }

  offer(row: number, cost: number): void {
    if (!(cost <= this.limit)) return
    this.limit = Math.min(this.limit, cost * (1 + this.#tie))
    this.#rows.push(row)
    this.#costs.push(cost)
  }

  /** The one with most free slots, else any; -1 when there is none. */
  pick(freeSlots: (row: number) => number, dice: Dice): number {
    let [best, most, equals] = [-1, -1, 0]
    for (let nth = 0; nth < this.#rows.length; nth++) {
      const row = this.#rows[nth] ?? -1
      if ((this.#costs[nth] ?? 0) > this.limit) continue
      const slots = freeSlots(row)
      if (slots < most) continue
      equals = slots > most ? 1 : equals + 1
      most = slots
      if (equals === 1 || dice() * equals < 1) best = row
    }
    return best
  }
}
