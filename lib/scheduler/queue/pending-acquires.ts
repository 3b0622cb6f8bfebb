import type { Api, RequestSpec } from '../../fleet/request-spec.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Grant } from './grant.ts'

/** Whoever waits for a load is not told that no slot became free, and is looked at again after so many milliseconds. */
const loadCheckMs = 1000

/** A request that is no longer here, to be told what comes of it. */
export interface PendingAcquire {
  readonly spec: RequestSpec
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

interface PendingAcquiresOptions {
  readonly clock: Clock
  readonly limitsOf: (spec: RequestSpec) => Limits
  /** Whether a request waits for a load, and not for a slot. */
  readonly awaitsLoad: (id: string) => boolean
  /** Its caller gave it up; the reason of the signal is what it is to be told. */
  readonly aborted: (id: string, reason: unknown) => void
  /** It has waited for as long as it may for a slot. */
  readonly timedOut: (id: string, model: string, waitedMs: number) => void
}

interface PendingEntry extends PendingAcquire {
  readonly id: string
  readonly signal: AbortSignal
  /** Ends its limit and its ear for the caller; null before it has them. */
  cancel: (() => void) | null
}

/** Whoever waits for a slot, and for how long they do: each leaves once, by `take`, to be told something. */
export class PendingAcquires {
  readonly #options: PendingAcquiresOptions
  /** By the id that the core knows them by. */
  readonly #entries = new ChurnMap<string, PendingEntry>()
  /** Most of them go at once: the others get their limits with the next `limit`. */
  #newcomers: PendingEntry[] = []

  constructor(options: PendingAcquiresOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#entries.size
  }

  has(id: string): boolean {
    return this.#entries.has(id)
  }

  /** Resolves or rejects as whoever takes it out says. */
  add(id: string, spec: RequestSpec, signal: AbortSignal): Promise<Grant> {
    const since = this.#options.clock.now()
    return new Promise((grant, refuse) => {
      const entry: PendingEntry = { id, spec, since, grant, refuse, signal, cancel: null }
      this.#entries.set(id, entry)
      this.#newcomers.push(entry)
    })
  }

  /**
   * Those who came since the last time and are still here: from now on they leave with their callers, and when they have
   * waited for too long, counted from when they came.
   */
  limit(): void {
    if (this.#newcomers.length === 0) return
    const newcomers = this.#newcomers
    this.#newcomers = []
    for (const entry of newcomers) if (this.#entries.get(entry.id) === entry) this.#limit(entry)
  }

  /** Takes a request out; undefined when it is not here any more. */
  take(id: string): PendingAcquire | undefined {
    const entry = this.#entries.get(id)
    if (!entry) return undefined
    this.#entries.delete(id)
    entry.cancel?.()
    return entry
  }

  /** Ids of those that wait for a variant. */
  idsOf(model: string, variant: string): string[] {
    const ids: string[] = []
    for (const [id, { spec }] of this.#entries)
      if (spec.model === model && spec.variant === variant) ids.push(id)
    return ids
  }

  /** How the first of those asks that wait for a model; undefined when none does. */
  apiFor(model: string): Api | undefined {
    for (const { spec } of this.#entries.values()) if (spec.model === model) return spec.api
    return undefined
  }

  /** Requests waiting and milliseconds that the first of them has waited, by class; classes nobody waits in are absent. */
  byClass(): ReadonlyMap<string, { readonly count: number; readonly oldestMs: number }> {
    const now = this.#options.clock.now()
    const classes = new Map<string, { count: number; oldestMs: number }>()
    for (const { spec, since } of this.#entries.values()) {
      const { count, oldestMs } = classes.get(spec.class) ?? { count: 0, oldestMs: 0 }
      classes.set(spec.class, { count: count + 1, oldestMs: Math.max(oldestMs, now - since) })
    }
    return classes
  }

  #limit(entry: PendingEntry): void {
    const { id, spec, since, signal } = entry
    const { clock, limitsOf, awaitsLoad, aborted, timedOut } = this.#options
    const { slotMs, loadMs } = limitsOf(spec)
    const abort = () => aborted(id, signal.reason)
    const look = () => {
      const isLoading = awaitsLoad(id) && clock.now() < since + slotMs + loadMs
      if (isLoading) cancelLook = clock.after(loadCheckMs, look)
      else timedOut(id, spec.model, slotMs)
    }
    let cancelLook = clock.after(since + slotMs - clock.now(), look)
    signal.addEventListener('abort', abort, { once: true })
    entry.cancel = () => {
      cancelLook()
      signal.removeEventListener('abort', abort)
    }
    if (signal.aborted) abort()
  }
}
