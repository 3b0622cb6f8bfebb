import type { Ask } from '../fleet/ask.ts'
import { placeOf } from '../fleet/classes.ts'
import type { Config } from '../fleet/config.ts'

/** What lifts a request by one class: however many urgent ones come, it is never last for long (sheet routing.md §2.4). */
const ageingMs = 30_000

/** How urgent an ask is at `now`: 0 is the most urgent class, which is also how far waiting lifts. */
export function rankOf({ class: name, arrivedAt }: Ask, classes: Config['classes'], now: number): number {
  return Math.max(0, placeOf(name, classes) - Math.floor((now - arrivedAt) / ageingMs))
}
