/** Up to so many instances need no spreading: the pauses of their callers are enough. */
const few = 10
/** Connections a second that all instances together open, on average: by chance it is twice that in some second. */
const connectsPerSecond = 12

/**
 * Milliseconds that a client pauses after a store did not answer. All clients lose a store at the same moment; each waits a
 * random time, so that the store gets no more connections than it can take (docs/etcd.md#connection).
 *
 * @param instances how many connect to the same store, this one included
 * @param failures in a row: after the first one any moment of the turn will do; later ones keep the order, or the late
 * ones of this turn would meet the early ones of the next
 * @param chance in [0, 1)
 */
export function reconnectPauseMs(instances: number, failures: number, chance: number): number {
  if (instances <= few) return 0
  const turnMs = (instances / connectsPerSecond) * 1000
  return turnMs * (failures <= 1 ? chance : 1 + chance / 2)
}
