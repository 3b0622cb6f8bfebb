import type { CurrentSnapshot, Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from '../http/exchange.ts'

/** Milliseconds that nodes may take to be looked at for the first time, and between two tries meanwhile. */
export const firstProbeMs = 5000
const pollMs = 50

/**
 * What `judge` makes of the nodes as they are known now; where some have not been looked at so far, and the answer may lie
 * with those, as they are known then: a request takes a moment longer instead of being refused.
 *
 * @throws what `judge` throws, after 5 s also `not_ready`; the reason of the exchange's signal.
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
