import type { Random } from '../../shared/random.ts'
import type { Parameters } from '../parameters.ts'
import type { QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'

/** Least and most seconds that a caller is told to stay away. */
const leastRetryS = 1
const mostRetryS = 600

/**
 * Who may wait. Whoever would wait too long is told so at once, while somebody else could still serve it; early refusals
 * keep the service good beyond saturation (docs/routing.md#admission).
 */
export class QueueLimits {
  readonly #rules: Parameters
  readonly #random: Random

  constructor(rules: Parameters, random: Random) {
    this.#rules = rules
    this.#random = random
  }

  /**
   * Judges a newcomer for whom no slot was free.
   *
   * @param lines with it standing there.
   * @param ttftS predicted seconds from its arrival to its first token.
   */
  check(
    { request, rule, plan }: QueueEntry,
    queue: Pick<FairQueue, 'length' | 'drainS' | 'isStanding'>,
    ttftS: number,
  ): 'queue-full' | 'tenant-full' | 'no-capacity' | null {
    const { maxQueued, tenantS, leastLimitS } = this.#rules.admission
    if (queue.drainS(request) > Math.max(tenantS, rule.limitS)) return 'tenant-full'
    // A large model would never be loaded if nobody might wait for it. They are few: see `window`.
    if (plan?.waitsFor === 'load') return null
    if (queue.length > maxQueued) return 'queue-full'
    // A standing queue means that it only adds delay: then nobody comes in who would miss the goal.
    const limit = queue.isStanding(request) ? rule.ttftS : Math.max(leastLimitS, rule.limitS)
    return ttftS > limit ? 'no-capacity' : null
  }

  /** Seconds after which asking again may help, varied so that callers do not come back together. */
  retryAfterS(waitS: number): number {
    const { jitter } = this.#rules.admission
    const varied = waitS * (1 + jitter * (2 * this.#random() - 1))
    return Math.min(mostRetryS, Math.max(leastRetryS, varied))
  }
}
