/**
 * Why a node gets no requests for now, besides having no free slot. `busy`: it asked for a pause. `trial`: the one request
 * that tests it is under way (half-open). `ejected`: its breaker is open because of bad answers. `frozen`: it accepts
 * connections and answers nothing, so it only gets requests that no other node can serve. `refused`: it refuses connections.
 */
export type AvailabilityBarrier = 'busy' | 'trial' | 'ejected' | 'frozen' | 'refused'

/** What one node may take of requests for one model: breaker, back-pressure and slow start together. */
export interface NodeAvailability {
  /** Null when the node may get requests. */
  readonly barrier: AvailabilityBarrier | null
  /** Requests of one model that may run there at once: fewer than its slots during slow start. */
  readonly limit: number
  /** The next request is the trial of a half-open breaker: no other may follow before its outcome is known. */
  readonly isTrial: boolean
  /** Call it when a request gets a slot there, or when a model is loaded there for a request; also past an `ejected`. */
  reserve(): void
}

/** How the scheduler sees the breakers and pauses that the gateway owns. */
export interface FleetAvailability {
  availabilityOf(node: string, model: string): NodeAvailability
}

/** The availability of a node of which nothing bad is known. */
export const alwaysAvailable: NodeAvailability = {
  barrier: null,
  limit: Number.POSITIVE_INFINITY,
  isTrial: false,
  reserve() {},
}
