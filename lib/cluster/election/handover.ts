import type { InstanceRecord } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'
import { StoreError } from '../../store/store.ts'

interface HandoverOptions {
  readonly clock: Clock
  /** Publishes our record, which names `successor`, at once. */
  readonly publish: () => void
}

/** Milliseconds for the store to show our record, and for the named instance to take over. */
const patienceMs = 2000

/**
 * Hands leadership to one instance by name: our record names it for two seconds, during which all others do not campaign.
 * Since the store keeps the order of writes, an instance that sees the leader key vanish has seen the record before. This
 * decides only which instance wins: that there is at most one leader rests on the leader key alone.
 */
export class Handover {
  readonly #options: HandoverOptions
  #named: { readonly successor: string; readonly shown: (isShown: boolean) => void } | null = null
  #cancel: () => void = () => {}

  constructor(options: HandoverOptions) {
    this.#options = options
  }

  /** The instance that is to lead next, for our record. */
  get successor(): string | null {
    return this.#named?.successor ?? null
  }

  /** Resolves once the store shows that `successor` is named. @throws StoreError when it does not in time. */
  async announce(successor: string): Promise<void> {
    this.stop()
    const { promise, resolve } = Promise.withResolvers<boolean>()
    this.#named = { successor, shown: resolve }
    this.#cancel = this.#options.clock.after(patienceMs, () => this.stop())
    this.#options.publish()
    if (!(await promise)) throw new StoreError('unavailable', 'the successor could not be announced')
  }

  /** Notes our record as the store has it. */
  observe(record: InstanceRecord | null): void {
    if (this.#named && record?.successor === this.#named.successor) this.#named.shown(true)
  }

  /** Withdraws the name of the successor. Safe to call at any time. */
  stop(): void {
    if (!this.#named) return
    this.#cancel()
    this.#named.shown(false)
    this.#named = null
    this.#options.publish()
  }
}

/** Whether the instance `name` must not campaign because another one was named as successor. */
export function holdsBack(name: string, instances: readonly InstanceRecord[]): boolean {
  return instances.some(({ successor }) => successor !== null && successor !== name)
}
