/**
 * What keeps requests from a node for now, besides its slots. `busy`: it asked for a pause. `trial`: the one request
 * that tries it is under way. `ejected`: its answers were bad. `frozen`: it takes connections and answers nothing, so it gets
 * only what no other node could serve. `refused`: nobody listens there.
 */
export type AvailabilityBarrier = 'busy' | 'trial' | 'ejected' | 'frozen' | 'refused'

/** The way to one node for requests of one model, as breaker, back-pressure and slow start leave it. */
export interface NodeAvailability {
  /** Null when requests may pass. */
  readonly barrier: AvailabilityBarrier | null
  /** How many requests of one model may run there: fewer than its slots while it warms up. */
  readonly limit: number
  /** The next request tries how the node does: no other passes until it tells. */
  readonly isTrial: boolean
  /** A request was given a slot, or a model is loaded for it, and will pass, if need be past an `ejected`. */
  claim(): void
}

/** The gateway owns breakers and pauses; this is the hole the scheduler sees them through. */
export interface FleetAvailability {
  passage(node: string, model: string): NodeAvailability
}

/** The passage of a node of which nothing bad is known. */
export const openPassage: NodeAvailability = {
  barrier: null,
  limit: Number.POSITIVE_INFINITY,
  isTrial: false,
  claim() {},
}
