import type { Parameters } from '../parameters.ts'
import type { QueueEntry, QueuePriority } from '../queue-entry.ts'
import type { Group } from './groups.ts'

/** A request in the queue as a pass finds it. */
export interface QueuedEntry {
  readonly entry: QueueEntry
  readonly group: Group
  readonly priority: QueuePriority
}

/** How far the line of a tenant has been taken, as though the requests before that had started. */
export interface QueueHead {
  readonly entries: readonly QueuedEntry[]
  at: number
  counter: number
  readonly weight: number
}

/**
 * One walk over the queue in order: a tenant is charged for each request as though it had started already. The request that
 * came last may be removed; nothing else may change meanwhile. Not a generator: a pass walks over dozens of requests, and
 * resuming one takes longer than finding the next request.
 */
export class QueueOrder {
  readonly #rules: Parameters
  readonly #isOver: (group: Group) => boolean
  readonly #ranks: number
  /** The tenants' lines of a rank, asked for when the walk gets there. */
  readonly #headsOf: (rank: number) => QueueHead[]
  #rank = 0
  #heads: QueueHead[] = []
  /** The line that the last request came from. */
  #head: QueueHead | null = null
  #last: QueuedEntry | null = null

  /** @param isOver groups that are passed over from then on, and not charged for. */
  constructor(
    rules: Parameters,
    ranks: number,
    headsOf: (rank: number) => QueueHead[],
    isOver: (group: Group) => boolean,
  ) {
    this.#rules = rules
    this.#ranks = ranks
    this.#headsOf = headsOf
    this.#isOver = isOver
  }

  /** Undefined once no more requests are left. */
  next(): QueuedEntry | undefined {
    // One that was removed has left its line, so that the line's next stands there.
    if (this.#head && this.#head.entries[this.#head.at] === this.#last) this.#head.at++
    for (;;) {
      const least = leastServed(this.#heads)
      const head = this.#heads[least]
      const next = head && this.#nextOf(head)
      if (head && next) {
        head.counter += charge(next.entry, this.#rules) / head.weight
        this.#head = head
        this.#last = next
        return next
      }
      if (head) this.#heads.splice(least, 1)
      else if (this.#rank < this.#ranks) this.#heads = this.#headsOf(this.#rank++)
      else return undefined
    }
  }

  /** Skips those of groups that are over. */
  #nextOf(head: QueueHead): QueuedEntry | undefined {
    let next = head.entries[head.at]
    while (next && this.#isOver(next.group)) next = head.entries[++head.at]
    return next
  }
}

/** What a tenant is charged for a request before it ran: prompt, and output by its weight. */
export function charge(
  { request, output }: Pick<QueueEntry, 'request' | 'output'>,
  { queue }: Parameters,
): number {
  return request.promptTokens + queue.outputWeight * output
}

function leastServed(heads: readonly { readonly counter: number }[]): number {
  let least = 0
  for (let at = 1; at < heads.length; at++)
    if ((heads[at]?.counter ?? 0) < (heads[least]?.counter ?? 0)) least = at
  return least
}
