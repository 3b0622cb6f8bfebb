import type { Clock } from '../shared/clock.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Entry, Store } from '../store/store.ts'

interface RecountOptions {
  readonly store: Store
  readonly prefix: string
  readonly clock: Clock
  readonly dice: Dice
  /** Whether these entries say again what is doubted. */
  readonly agrees: (entries: readonly Entry[]) => boolean
  /** Called once the store has said the same often enough. */
  readonly confirmed: () => void
}

/** Three lists in a row over 30 s (docs/etcd.md#mass-deletion). */
const listsNeeded = 3
const periodMs = 15_000

/** Asks the store itself again and again before a mass deletion is taken for the operator's wish. */
export class Recount {
  readonly #options: RecountOptions
  readonly #loop: Loop
  #agreed = 0

  constructor(options: RecountOptions) {
    const { clock, dice } = options
    this.#options = options
    this.#loop = new Loop({
      clock,
      dice,
      periodMs: () => periodMs,
      jitter: 0,
      round: (signal) => this.#round(signal),
    })
  }

  /** Begins to count. Safe to call while it counts. */
  start(): void {
    this.#loop.start()
  }

  /** The next start counts from the beginning. Safe to call twice. */
  stop(): void {
    this.#agreed = 0
    void this.#loop.stop()
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { store, prefix, agrees, confirmed } = this.#options
    const listed = await store.list(prefix).catch(() => null)
    if (signal.aborted) return
    this.#agreed = listed && agrees(listed.entries) ? this.#agreed + 1 : 0
    if (this.#agreed >= listsNeeded) confirmed()
  }
}
