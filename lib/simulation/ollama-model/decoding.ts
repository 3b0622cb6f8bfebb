/**
 * How many times slower each stream of a runner decodes than it would alone.
 * @param penalty for each further stream.
 */
export function decodeSlowdown(streams: number, penalty: number): number {
  return 1 + (streams - 1) * penalty
}
