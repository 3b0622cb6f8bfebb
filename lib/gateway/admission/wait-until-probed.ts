import type { CurrentSnapshot, Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from '../http/exchange.ts'

/** Milliseconds that the first probe of nodes may take, and between two checks. */
export const firstProbeMs = 5000
const pollMs = 50

/**
 * The result of `decide` for the current snapshot. When it throws `not_ready`, because a node that was not probed yet
 * may have the model, waits for the next snapshot, up to 5 s.
 *
 * @throws what `decide` throws; the reason of the exchange's signal.
 */
export async function onceProbed<T>(
  decide: (snapshot: Snapshot) => T,
  { signal, startedAt }: Exchange,
  { snapshot: current, clock }: { readonly snapshot: CurrentSnapshot; readonly clock: Clock },
): Promise<T> {
  const isOver = () => clock.now() >= startedAt + firstProbeMs
  for (;;) {
    const snapshot = current.get()
    try {
      return decide(snapshot)
    } catch (error) {
      if (!(error instanceof ProxyError && error.code === 'not_ready') || isOver()) throw error
    }
    await until(() => current.get() !== snapshot || isOver(), clock, signal)
  }
}

/** @throws the signal's reason when it aborts first. */
export async function until(isSo: () => boolean, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!isSo()) await clock.sleep(pollMs, signal)
}
