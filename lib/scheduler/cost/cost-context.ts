import type { FleetState } from '../fleet/fleet-state.ts'
import type { Learning } from '../learning/learning.ts'
import type { Parameters } from '../parameters.ts'
import type { VictimPrices } from './victim-prices.ts'

/** What costs are computed from. */
export interface CostContext {
  readonly fleet: FleetState
  readonly learning: Learning
  readonly parameters: Parameters
  readonly victims: VictimPrices
}
