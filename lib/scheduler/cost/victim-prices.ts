import type { HostNode, Runner } from '../fleet/runner.ts'

/** What it costs to evict one model from memory. */
export interface PricedVictim {
  readonly victim: Runner
  /** Bytes in memory. */
  readonly size: number
  /** Seconds that other requests will lose without it. */
  readonly penalty: number
  /** When its last request will have ended, in monotonic seconds. */
  readonly drainedAt: number
  /** Seconds: the penalty, and the wait for its requests to end. */
  readonly price: number
}

/** The models in memory of one node, the cheapest to evict first; valid for one stamp of the node, and for one tick. */
export interface PricedVictims {
  readonly stamp: number
  readonly at: number
  readonly victims: readonly PricedVictim[]
}

/** The last prices by node: every model that wants room on a node shares them. */
export type VictimPrices = WeakMap<HostNode, PricedVictims>
