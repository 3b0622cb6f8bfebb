import type { Clock } from '../shared/clock.ts'
import type { Plan } from './faults.ts'
import type { Ledger } from './ledger.ts'
import type { Pacer } from './pacer.ts'
import type { Refusal } from './refusal.ts'
import type { Reply } from './reply.ts'
import type { Scheduler } from './scheduler.ts'
import type { Shelf } from './shelf.ts'

/** What stands behind the HTTP face of a node; the endpoints work with it. */
export interface Machine {
  readonly clock: Clock
  readonly version: string
  /** Multiplies the models' speeds. */
  readonly speed: number
  readonly seed: number
  readonly ledger: Ledger
  readonly shelf: Shelf
  /** A new one after a restart. */
  readonly scheduler: Scheduler
}

/** One request under way, and the way its answer goes out. */
export interface Exchange {
  /** The request's number in the ledger. */
  readonly id: number
  readonly arrivedAt: number
  readonly body: DecodedBody
  readonly plan: Plan
  readonly pacer: Pacer
  readonly reply: Reply
  /** Aborts when the client leaves, or a fault cuts the answer. */
  readonly signal: AbortSignal
}

export type DecodedBody = { readonly value: unknown } | { readonly refusal: Refusal }
