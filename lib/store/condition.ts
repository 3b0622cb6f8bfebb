import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'

export const troubleKinds = ['no-space', 'corrupt', 'no-permission', 'disk-full', 'unwritable'] as const

/** What a reachable store refuses until the operator acts. */
export interface Trouble {
  readonly kind: (typeof troubleKinds)[number]
  /** Whether at least reading works. */
  readonly refuses: 'writes' | 'everything'
  /** For the operator: what is wrong, and what to do about it. */
  readonly reason: string
  readonly remedy: string
}

interface Options {
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
  /** Milliseconds without a refusal after which a successful call ends a trouble: some keys may be refused and others not. */
  readonly settleMs: number
}

/** Milliseconds between two reminders while the operator has not acted. */
const repeatMs = 60_000

/**
 * Whether a reachable store does what it is asked: ok, or in trouble of one kind. Trouble begins with the first refusal and
 * ends when a call of the refused kind succeeds.
 */
export class Condition {
  readonly #options: Options
  readonly #listeners = new Set<() => void>()
  #trouble: (Trouble & { readonly since: Date }) | null = null
  #refusedAt = Number.NEGATIVE_INFINITY
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(options: Options) {
    this.#options = options
    for (const kind of troubleKinds) options.metrics?.storeTrouble.set({ kind }, 0)
  }

  /** Null while nothing is refused. */
  get trouble(): (Trouble & { readonly since: Date }) | null {
    return this.#trouble
  }

  /** Calls `listener` when a trouble begins, changes or ends. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  refused(trouble: Trouble): void {
    const { clock, log } = this.#options
    // While reads are refused, a refused write says nothing new, and does not prolong the trouble.
    if (trouble.refuses === 'writes' && this.#trouble?.refuses === 'everything') return
    this.#refusedAt = clock.now()
    const isNew = trouble.kind !== this.#trouble?.kind || trouble.refuses !== this.#trouble.refuses
    if (isNew || clock.now() - this.#toldAt >= repeatMs) {
      this.#toldAt = clock.now()
      const { reason, remedy } = trouble
      log.warn(
        trouble.refuses === 'writes'
          ? 'the store is read-only: requests go on'
          : 'the store refuses everything: requests go on with the last configuration',
        { reason, remedy },
      )
    }
    if (isNew) this.#become({ ...trouble, since: clock.date() })
  }

  /** A write succeeded. */
  wrote(): void {
    this.#end()
  }

  /** A read succeeded. */
  read(): void {
    if (this.#trouble?.refuses === 'everything') this.#end()
  }

  /** The store itself reports no trouble of these kinds any more. */
  cleared(...kinds: readonly Trouble['kind'][]): void {
    if (this.#trouble && kinds.includes(this.#trouble.kind)) this.#end()
  }

  #end(): void {
    const { clock, log, settleMs } = this.#options
    if (this.#trouble === null || clock.now() - this.#refusedAt < settleMs) return
    log.info('the store takes writes again', { reason: `over: ${this.#trouble.reason}` })
    this.#become(null)
  }

  #become(trouble: (Trouble & { readonly since: Date }) | null): void {
    const { metrics } = this.#options
    if (this.#trouble) metrics?.storeTrouble.set({ kind: this.#trouble.kind }, 0)
    this.#trouble = trouble
    if (trouble) metrics?.storeTrouble.set({ kind: trouble.kind }, 1)
    for (const listener of this.#listeners) listener()
  }
}
