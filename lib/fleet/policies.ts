/** How nodes are chosen; all but the first are there to compare with (`routing.policy`). */
export const policies = [
  'earliest-finish',
  'least-connections',
  'round-robin',
  'weighted',
  'resident-first',
] as const
export type Policy = (typeof policies)[number]
