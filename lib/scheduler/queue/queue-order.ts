import type { Parameters } from '../parameters.ts'
import type { QueueEntry, QueuePriority } from '../queue-entry.ts'
import type { Group } from './groups.ts'

/** A queued request, as a pass finds it. */
export interface QueuedEntry {
  readonly entry: QueueEntry
  readonly group: Group
  readonly priority: QueuePriority
}

/** How far a walk has come in the requests of one tenant, and the tenant's counter as though those had started. */
export interface QueueHead {
  readonly entries: readonly QueuedEntry[]
  at: number
  counter: number
  readonly weight: number
}

/**
 * One walk over the queue in order. It charges a tenant for each request as though the request had started. The caller may
 * remove the last returned request; nothing else may change meanwhile. It is not a generator: resuming one costs more than
 * finding the next request, and a pass visits dozens.
 */
export class QueueOrder {
  readonly #parameters: Parameters
  readonly #isOver: (group: Group) => boolean
  readonly #ranks: number
  /** Returns the tenants' requests of a rank; called when the walk gets there. */
  readonly #headsOf: (rank: number) => QueueHead[]
  #rank = 0
  #heads: QueueHead[] = []
  /** The tenant of the last request. */
  #head: QueueHead | null = null
  #last: QueuedEntry | null = null

  /** @param isOver tells groups to skip from then on; skipped requests are not charged. */
  constructor(
    parameters: Parameters,
    ranks: number,
    headsOf: (rank: number) => QueueHead[],
    isOver: (group: Group) => boolean,
  ) {
    this.#parameters = parameters
    this.#ranks = ranks
    this.#headsOf = headsOf
    this.#isOver = isOver
  }

  /** The next request; undefined at the end. */
  next(): QueuedEntry | undefined {
    // If the last request was removed, the next one has taken its index.
    if (this.#head && this.#head.entries[this.#head.at] === this.#last) this.#head.at++
    for (;;) {
      const least = leastServed(this.#heads)
      const head = this.#heads[least]
      const next = head && this.#nextOf(head)
      if (head && next) {
        head.counter += charge(next.entry, this.#parameters) / head.weight
        this.#head = head
        this.#last = next
        return next
      }
      if (head) this.#heads.splice(least, 1)
      else if (this.#rank < this.#ranks) this.#heads = this.#headsOf(this.#rank++)
      else return undefined
    }
  }

  /** Skips the requests of groups that are over. */
  #nextOf(head: QueueHead): QueuedEntry | undefined {
    let next = head.entries[head.at]
    while (next && this.#isOver(next.group)) next = head.entries[++head.at]
    return next
  }
}

/** What a tenant is charged for a request before it runs: prompt tokens and weighted expected output. */
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
