import type { Random } from '../../shared/random.ts'
import type { Parameters } from '../parameters.ts'
import type { QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'

/** Bounds of the Retry-After seconds. */
const leastRetryS = 1
const mostRetryS = 600

/**
 * Decides which requests may wait. A request that would wait too long is refused at once, while its caller can still go
 * elsewhere; early refusals keep the service good beyond saturation (docs/routing.md#admission).
 */
export class QueueLimits {
  readonly #parameters: Parameters
  readonly #random: Random

  constructor(parameters: Parameters, random: Random) {
    this.#parameters = parameters
    this.#random = random
  }

  /**
   * Checks a newcomer that got no slot. Null: it may wait.
   *
   * @param queue the queue, including the newcomer.
   * @param ttftS predicted seconds from its arrival to its first token.
   */
  check(
    { request, classParameters, plan }: QueueEntry,
    queue: Pick<FairQueue, 'length' | 'drainS' | 'isStanding'>,
    ttftS: number,
  ): 'queue-full' | 'tenant-full' | 'no-capacity' | null {
    const { maxQueued, tenantS, leastLimitS } = this.#parameters.admission
    if (queue.drainS(request) > Math.max(tenantS, classParameters.limitS)) return 'tenant-full'
    // A large model would never be loaded if no request might wait for it. Few can: a pass places at most `window` requests.
    if (plan?.waitsFor === 'load') return null
    if (queue.length > maxQueued) return 'queue-full'
    // A standing queue only adds delay: then a request that would miss its goal is refused.
    const limit = queue.isStanding(request)
      ? classParameters.ttftS
      : Math.max(leastLimitS, classParameters.limitS)
    return ttftS > limit ? 'no-capacity' : null
  }

  /** Retry-After seconds, with jitter so that callers do not return together. */
  retryAfterS(waitS: number): number {
    const { jitter } = this.#parameters.admission
    const varied = waitS * (1 + jitter * (2 * this.#random() - 1))
    return Math.min(mostRetryS, Math.max(leastRetryS, varied))
  }
}
