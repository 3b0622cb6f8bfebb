import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import type { Clock } from '../../shared/clock.ts'
import type { Blobs } from './disk/blobs.ts'
import type { Downloads } from './disk/downloads.ts'
import type { ModelDefinition } from './disk/model-definition.ts'
import type { Shelf } from './disk/shelf.ts'
import type { NodeRunners } from './engine/node-runners.ts'
import type { Pacer } from './engine/pacer.ts'
import type { FaultPlan } from './faults.ts'
import type { Ledger } from './ledger.ts'
import type { Refusal } from './refusal.ts'
import type { NodeReply } from './reply.ts'

/** What stands behind the HTTP face of a node; the endpoints work with it. */
export interface Machine {
  readonly clock: Clock
  readonly version: string
  /** Models of ollama.com: forbidden, or allowed on a node without an account. */
  readonly cloud: 'off' | 'signed-out'
  /** Multiplies the models' speeds. */
  readonly speed: number
  readonly seed: number
  readonly ledger: Ledger
  readonly shelf: Shelf
  readonly blobs: Blobs
  readonly downloads: Downloads
  /** What can be pulled, by the key of its name. */
  readonly registry: ReadonlyMap<string, ModelDefinition>
  /** A new one after a restart. */
  readonly runners: NodeRunners
}

/** One open request, and the way to answer it. */
export interface NodeExchange {
  /** The request's number in the ledger. */
  readonly id: number
  readonly arrivedAt: number
  readonly body: DecodedBody
  readonly headers: IncomingHttpHeaders
  /** What stands in the path where the route has a parameter; else empty. */
  readonly tail: string
  /** The body, unread, on the route that takes it as a stream. */
  readonly upload: Readable
  readonly plan: FaultPlan
  readonly pacer: Pacer
  readonly reply: NodeReply
  /** Aborts when the client leaves, or a fault cuts the answer. */
  readonly signal: AbortSignal
}

export type DecodedBody = { readonly value: unknown } | { readonly refusal: Refusal }
