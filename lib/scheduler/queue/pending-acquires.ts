import type { Api, RequestSpec } from '../../fleet/request-spec.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Grant } from './grant.ts'

/** A request that waits for a load has no slot timeout. Whether it still waits for one is checked at this interval. */
const loadCheckMs = 1000

/** A request that waits for a slot, and how to settle it. */
export interface PendingAcquire {
  readonly spec: RequestSpec
  /** When it entered the queue, in monotonic milliseconds. */
  readonly since: number
  grant(grant: Grant): void
  refuse(reason: unknown): void
}

/** Wait limits in milliseconds. */
interface Limits {
  readonly slotMs: number
  /** In addition, while its model is being loaded. */
  readonly loadMs: number
}

interface PendingAcquiresOptions {
  readonly clock: Clock
  readonly limitsOf: (spec: RequestSpec) => Limits
  /** Whether a request waits for a load rather than a slot. */
  readonly awaitsLoad: (id: string) => boolean
  /** The caller aborted the request. @param reason of its signal, for the rejection. */
  readonly aborted: (id: string, reason: unknown) => void
  /** The request has waited for a slot as long as it may. */
  readonly timedOut: (id: string, model: string, waitedMs: number) => void
}

interface PendingEntry extends PendingAcquire {
  readonly id: string
  readonly signal: AbortSignal
  /** Cancels the timer and the abort listener; null before `limit` sets them. */
  cancel: (() => void) | null
}

/** Requests that wait for a slot, with their time limits. Each leaves once, by `take`, and is then settled. */
export class PendingAcquires {
  readonly #options: PendingAcquiresOptions
  /** By their id in the core. */
  readonly #entries = new ChurnMap<string, PendingEntry>()
  /** Requests without limits so far: most get a slot at once, so timers are only set by the next `limit`. */
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

  /** Resolves or rejects when the request is taken out and settled. */
  add(id: string, spec: RequestSpec, signal: AbortSignal): Promise<Grant> {
    const since = this.#options.clock.now()
    return new Promise((grant, refuse) => {
      const entry: PendingEntry = { id, spec, since, grant, refuse, signal, cancel: null }
      this.#entries.set(id, entry)
      this.#newcomers.push(entry)
    })
  }

  /** Gives the requests that arrived since the last call, and still wait, their time limit and abort listener. */
  limit(): void {
    if (this.#newcomers.length === 0) return
    const newcomers = this.#newcomers
    this.#newcomers = []
    for (const entry of newcomers) if (this.#entries.get(entry.id) === entry) this.#limit(entry)
  }

  /** Takes a request out, to settle it; undefined: it is no longer pending. */
  take(id: string): PendingAcquire | undefined {
    const entry = this.#entries.get(id)
    if (!entry) return undefined
    this.#entries.delete(id)
    entry.cancel?.()
    return entry
  }

  /** Ids of the requests that wait for a variant. */
  idsOf(model: string, variant: string): string[] {
    const ids: string[] = []
    for (const [id, { spec }] of this.#entries)
      if (spec.model === model && spec.variant === variant) ids.push(id)
    return ids
  }

  /** The API of the first request that waits for a model; undefined: none waits. */
  apiFor(model: string): Api | undefined {
    for (const { spec } of this.#entries.values()) if (spec.model === model) return spec.api
    return undefined
  }

  /** By class: pending requests, and the longest wait in milliseconds. Classes without requests are absent. */
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
