import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError } from '../../lib/store/store.ts'

/**
 * Asks a store until it answers: on a busy machine etcd may wait for its disk longer than the time limit of a call. Only for reads,
 * and for writes that may be repeated.
 */
export async function patiently<T>(ask: () => Promise<T>, withinMs = 10_000): Promise<T> {
  for (const startedAt = performance.now(); ; ) {
    try {
      return await ask()
    } catch (error) {
      const isSilence = error instanceof StoreError && error.fault === 'unavailable'
      if (!isSilence || performance.now() - startedAt > withinMs) throw error
      await sleep(50)
    }
  }
}
