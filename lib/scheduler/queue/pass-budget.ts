import type { Parameters } from '../parameters.ts'
import type { Group } from './groups.ts'

/**
 * Limits how many requests one pass evaluates without starting them, so that a pass takes about as long however many wait.
 * Each group has a share, so that requests that wait for one model do not keep another model's requests from its free slots.
 * Starting a request costs nothing.
 *
 * There are two windows of the same size. All groups share the window of blocked groups. Groups with a free slot share one
 * more for as long as they have one: some of their requests may not use that slot, and the next one may.
 */
export class PassBudget {
  readonly #parameters: Parameters['queue']
  /** Used again by each pass. */
  readonly #all: Group[] = []
  /** Groups with requests that were not yet evaluated: those with a free slot, and those without. */
  #openGroups = 0
  #blockedGroups = 0
  /** Evaluations that groups have left of their shares, and those that belong to no share, by window. */
  #shared = 0
  #spareOfOpen = 0
  #spareOfBlocked = 0

  constructor(parameters: Parameters['queue']) {
    this.#parameters = parameters
  }

  /** Gives every group its share for one pass. */
  begin(groups: Iterable<Group>, isOpen: (group: Group) => boolean, now: number): void {
    const { window, tickS } = this.#parameters
    this.#openGroups = 0
    for (const group of groups) {
      group.isOpen = isOpen(group)
      if (group.isOpen) this.#openGroups++
      this.#all.push(group)
    }
    this.#blockedGroups = this.#all.length - this.#openGroups
    const shareOfAll = shareOf(window, this.#all.length)
    const shareOfOpen = shareOf(window, this.#openGroups)
    this.#spareOfBlocked = window
    this.#spareOfOpen = window
    this.#shared = 0
    for (const group of this.#all) {
      // Callers choose variants: where there are more groups than evaluations, each group has its share once a tick.
      const isDue = now >= group.sharedAt + tickS
      if (isDue) group.sharedAt = now
      const share = isDue || this.#all.length <= window ? Math.min(shareOfAll, group.waiting) : 0
      this.#spareOfBlocked -= share
      group.whenBlocked = share
      group.left = share
      group.unseen = group.waiting
      if (group.isOpen) {
        group.left = isDue || this.#openGroups <= window ? Math.min(shareOfOpen, group.waiting) : 0
        this.#spareOfOpen -= group.left
      }
      this.#shared += group.left
    }
    this.#all.length = 0
  }

  /** Whether the pass may evaluate one more request of a group. */
  allows({ left, isOpen }: Group): boolean {
    return left > 0 || (isOpen ? this.#spareOfOpen : this.#spareOfBlocked) > 0
  }

  /** Whether the pass may evaluate no more requests of any group. */
  get isSpent(): boolean {
    if (this.#shared > 0) return false
    const isOpenSpent = this.#openGroups === 0 || this.#spareOfOpen <= 0
    return isOpenSpent && (this.#blockedGroups === 0 || this.#spareOfBlocked <= 0)
  }

  /** The last free slot of a group was taken: until the pass ends it has what it would have without one. */
  close(group: Group): void {
    if (!group.isOpen) return
    group.isOpen = false
    this.#openGroups--
    this.#blockedGroups++
    this.#leave(group, Math.min(group.whenBlocked, group.unseen))
  }

  /** One request of a group was evaluated. */
  spend(group: Group, hasStarted: boolean): void {
    group.unseen--
    if (!hasStarted && group.whenBlocked > 0) group.whenBlocked--
    if (hasStarted) this.#leave(group, Math.min(group.left, group.unseen))
    else if (group.left > 0) this.#leave(group, group.left - 1)
    else if (group.isOpen) this.#spareOfOpen--
    else this.#spareOfBlocked--
    if (group.unseen > 0) return
    if (group.isOpen) this.#openGroups--
    else this.#blockedGroups--
  }

  #leave(group: Group, left: number): void {
    this.#shared += left - group.left
    group.left = left
  }
}

/** One evaluation at least. */
function shareOf(window: number, groups: number): number {
  return Math.max(1, Math.floor(window / Math.max(1, groups)))
}
