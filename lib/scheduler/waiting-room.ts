import type { Api, Ask } from '../fleet/ask.ts'
import type { Clock } from '../shared/clock.ts'
import { Roster } from '../shared/roster.ts'
import type { Grant } from './grant.ts'

/** Whoever waits for a load is not told that no slot became free, and is looked at again after so many milliseconds. */
const loadCheckMs = 1000

/** A request that is no longer here, to be told what comes of it. */
export interface Waiter {
  readonly ask: Ask
  /** When it began to wait this time, in monotonic milliseconds. */
  readonly since: number
  grant(grant: Grant): void
  refuse(reason: unknown): void
}

/** How long one may wait, in milliseconds. */
interface Limits {
  readonly slotMs: number
  /** Beside that, as long as its model is being loaded. */
  readonly loadMs: number
}

interface WaitingRoomOptions {
  readonly clock: Clock
  /** Whether a request waits for a load, and not for a slot. */
  readonly awaitsLoad: (id: string) => boolean
  /** Its caller gave it up; the reason of the signal is what it is to be told. */
  readonly gone: (id: string, reason: unknown) => void
  /** It has waited for as long as it may for a slot. */
  readonly overdue: (id: string, model: string, waitedMs: number) => void
}

interface Seat extends Waiter {
  /** Ends what watches over its wait. */
  readonly leave: () => void
}

/** Whoever waits for a slot, and for how long they do: each leaves once, by `take`, to be told something. */
export class WaitingRoom {
  readonly #options: WaitingRoomOptions
  /** By the id that the core knows them by. */
  readonly #seats = new Roster<string, Seat>()

  constructor(options: WaitingRoomOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#seats.size
  }

  has(id: string): boolean {
    return this.#seats.has(id)
  }

  /** Resolves or rejects as whoever takes it out says. */
  enter(id: string, ask: Ask, limits: Limits, signal: AbortSignal): Promise<Grant> {
    const { clock, gone } = this.#options
    const { promise, resolve, reject } = Promise.withResolvers<Grant>()
    const since = clock.now()
    const abort = () => gone(id, signal.reason)
    const cancelLimit = this.#limit(id, ask, limits)
    const leave = () => {
      cancelLimit()
      signal.removeEventListener('abort', abort)
    }
    signal.addEventListener('abort', abort, { once: true })
    this.#seats.set(id, { ask, since, grant: resolve, refuse: reject, leave })
    return promise
  }

  /** Takes a request out; undefined when it is not here any more. */
  take(id: string): Waiter | undefined {
    const seat = this.#seats.get(id)
    this.#seats.delete(id)
    seat?.leave()
    return seat
  }

  /** Ids of those that wait for a variant. */
  of(model: string, variant: string): string[] {
    const ids: string[] = []
    for (const [id, { ask }] of this.#seats) if (ask.model === model && ask.variant === variant) ids.push(id)
    return ids
  }

  /** How the first of those asks that wait for a model; undefined when none does. */
  apiFor(model: string): Api | undefined {
    for (const { ask } of this.#seats.values()) if (ask.model === model) return ask.api
    return undefined
  }

  /** Requests waiting and milliseconds that the first of them has waited, by class; classes nobody waits in are absent. */
  byClass(): ReadonlyMap<string, { readonly count: number; readonly oldestMs: number }> {
    const now = this.#options.clock.now()
    const classes = new Map<string, { count: number; oldestMs: number }>()
    for (const { ask, since } of this.#seats.values()) {
      const { count, oldestMs } = classes.get(ask.class) ?? { count: 0, oldestMs: 0 }
      classes.set(ask.class, { count: count + 1, oldestMs: Math.max(oldestMs, now - since) })
    }
    return classes
  }

  /** Returns what cancels it. */
  #limit(id: string, { model }: Ask, { slotMs, loadMs }: Limits): () => void {
    const { clock, awaitsLoad, overdue } = this.#options
    const loadedBy = clock.now() + slotMs + loadMs
    const look = () => {
      if (awaitsLoad(id) && clock.now() < loadedBy) cancel = clock.after(loadCheckMs, look)
      else overdue(id, model, slotMs)
    }
    let cancel = clock.after(slotMs, look)
    return () => cancel()
  }
}
