import type { Group } from './groups.ts'
import type { Parameters } from './parameters.ts'

/**
 * How many requests one pass looks at that cannot start: so many in all, whatever waits. Each group has its share, so that
 * none is kept from its places by requests that wait for others. A request that starts costs nothing. Groups with a free
 * slot share one budget, those without share another.
 */
export class LookBudgets {
  readonly #rules: Parameters['queue']
  /** Used again by each pass. */
  readonly #open: Group[] = []
  readonly #blocked: Group[] = []
  #spareOfOpen = 0
  #spareOfBlocked = 0

  constructor(rules: Parameters['queue']) {
    this.#rules = rules
  }

  /** @param isOpen one of its places has a free slot. */
  add(group: Group, isOpen: boolean): void {
    group.isOpen = isOpen
    if (isOpen) this.#open.push(group)
    else this.#blocked.push(group)
  }

  /** Gives every group its share. After the last group was added. */
  share(now: number): void {
    this.#spareOfOpen = this.#shareAmong(this.#open, now)
    this.#spareOfBlocked = this.#shareAmong(this.#blocked, now)
  }

  allows({ looks, isOpen }: Group): boolean {
    return looks > 0 || (isOpen ? this.#spareOfOpen : this.#spareOfBlocked) > 0
  }

  spend(group: Group): void {
    if (group.looks > 0) group.looks--
    else if (group.isOpen) this.#spareOfOpen--
    else this.#spareOfBlocked--
  }

  /** Equal shares, one look each at least. Returns what is left for all. */
  #shareAmong(groups: Group[], now: number): number {
    const { window, tickS } = this.#rules
    const share = Math.max(1, Math.floor(window / groups.length))
    let spare = window
    for (const group of groups) {
      // Callers choose variants: where there are very many groups, each is looked at once a tick.
      const isDue = groups.length <= window || now >= group.sharedAt + tickS
      group.looks = isDue ? Math.min(share, group.waiting) : 0
      if (isDue) group.sharedAt = now
      spare -= group.looks
    }
    groups.length = 0
    return spare
  }
}
