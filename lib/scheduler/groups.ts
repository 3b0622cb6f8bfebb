import { Roster } from '../shared/roster.ts'
import type { Work } from './events.ts'

/** Requests in the queue that have the same places: one variant, the same labels asked for, failed by the same nodes. */
export interface Group {
  readonly model: string
  readonly variant: string
  readonly key: string
  /** How many wait. */
  waiting: number
  /** How many more of them the pass under way may look at in vain. This and the next two are changed by LookBudgets only. */
  looks: number
  /** Whether one of its places had a free slot when the pass began. */
  isOpen: boolean
  /** When it had its last share of looks, in monotonic seconds. */
  sharedAt: number
}

/** Counts the requests of each group. A group lasts as long as one of its requests waits. */
export class Groups {
  readonly #groups = new Roster<string, Group>()

  get size(): number {
    return this.#groups.size
  }

  all(): Iterable<Group> {
    return this.#groups.values()
  }

  join(work: Work): Group {
    const key = keyOf(work)
    let group = this.#groups.get(key)
    if (!group) {
      const { model, variant } = work
      group = { model, variant, key, waiting: 0, looks: 0, isOpen: false, sharedAt: Number.NEGATIVE_INFINITY }
      this.#groups.set(key, group)
    }
    group.waiting++
    return group
  }

  leave(group: Group): void {
    group.waiting--
    if (group.waiting === 0) this.#groups.delete(group.key)
  }
}

function keyOf({ model, variant, nodes, tried }: Work): string {
  const key = variant === '' ? model : `${model}\n${variant}`
  const labels = Object.entries(nodes)
  if (labels.length === 0 && tried.size === 0) return key
  return JSON.stringify([key, labels.sort(), [...tried].sort()])
}
