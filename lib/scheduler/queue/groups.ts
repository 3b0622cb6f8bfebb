import { ChurnMap } from '../../shared/churn-map.ts'
import type { SchedulingRequest } from '../events.ts'

/** Queued requests that may use the same nodes: same variant, same labels, failed by the same nodes. */
export interface Group {
  readonly model: string
  readonly variant: string
  readonly key: string
  /** Queued requests. */
  waiting: number
  /** Whether one of its runners has a free slot. This and the fields below belong to PassBudget and the current pass. */
  isOpen: boolean
  /** Evaluations left of the group's share. */
  left: number
  /** The group's share once no runner has a free slot. */
  whenBlocked: number
  /** Requests that the pass has not evaluated yet. */
  unseen: number
  /** When the group got its last share by time, in monotonic seconds. */
  sharedAt: number
}

const unshared = { isOpen: false, left: 0, whenBlocked: 0, unseen: 0, sharedAt: Number.NEGATIVE_INFINITY }

/** Counts the requests of each group. A group exists while one of its requests waits. */
export class Groups {
  readonly #groups = new ChurnMap<string, Group>()

  get size(): number {
    return this.#groups.size
  }

  all(): Iterable<Group> {
    return this.#groups.values()
  }

  join(request: SchedulingRequest): Group {
    const key = keyOf(request)
    let group = this.#groups.get(key)
    if (!group) {
      const { model, variant } = request
      group = { model, variant, key, waiting: 0, ...unshared }
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

function keyOf({ model, variant, labels, tried }: SchedulingRequest): string {
  const key = variant === '' ? model : `${model}\n${variant}`
  if (tried.size === 0 && isEmpty(labels)) return key
  return JSON.stringify([key, Object.entries(labels).sort(), [...tried].sort()])
}

function isEmpty(labels: SchedulingRequest['labels']): boolean {
  for (const _ in labels) return false
  return true
}
