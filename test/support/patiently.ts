import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError } from '../../lib/store/store.ts'

/**
 * Asks a store until it answers: a busy machine may keep etcd from its disk for longer than a call may take, and whoever only
 * looks on, or writes what may be written twice, has time.
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
