import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'

interface ClockSkewOptions {
  readonly clock: Pick<Clock, 'date'>
  readonly log: Log
  readonly metrics: Metrics
}

/** Milliseconds by which two wall clocks may differ. The latency of a heartbeat comes on top. */
const toleratedMs = 30_000
/**
 * Heartbeats in a row. A single one is not enough: the first after a gap may have been written long before it arrived.
 */
const confirmations = 2

/** Compares the wall clocks of this machine and of the leader: API keys expire by wall clock, and logs are read by it. */
export class ClockSkew {
  readonly #options: ClockSkewOptions
  #far = 0

  constructor(options: ClockSkewOptions) {
    this.#options = options
  }

  /** @param at when the leader wrote the heartbeat that just arrived, by the leader's clock */
  observe(leader: string, at: Date): void {
    const { clock, log, metrics } = this.#options
    const aheadMs = clock.date().getTime() - at.getTime()
    metrics.clockSkew.set(aheadMs / 1000)
    const wasTold = this.#far >= confirmations
    this.#far = Math.abs(aheadMs) > toleratedMs ? this.#far + 1 : 0
    if (wasTold && this.#far === 0)
      log.info('clock skew is over: the clocks of this machine and of the leader agree again', { leader })
    if (!wasTold && this.#far >= confirmations)
      log.warn('clock skew: the clocks of this machine and of the leader differ', {
        leader,
        aheadSeconds: Math.round(aheadMs / 1000),
        remedy:
          "check the time synchronisation of both machines (timedatectl): API keys expire by each machine's own clock",
      })
  }
}
