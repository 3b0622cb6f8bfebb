import type { Random } from '../../shared/random.ts'

/** Normally distributed, mean 0 and standard deviation 1 (Box and Muller). */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
}

/** Lognormal with mean 1 and coefficient of variation `cv`. */
export function burst(random: Random, cv: number): number {
  const variance = Math.log(1 + cv * cv)
  return Math.exp(normal(random) * Math.sqrt(variance) - variance / 2)
}

/** An index, as often as its weight says. */
export function pickByWeight(random: Random, weights: readonly number[]): number {
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0)
  const found = weights.findIndex((weight) => {
    left -= weight
    return left < 0
  })
  return Math.max(0, found)
}

/** Points of a distribution: which share of all values lies below which value. */
export type Quantiles = readonly (readonly [share: number, value: number])[]

/** A value of a distribution known by some of its quantiles, log-linear between them. */
export function draw(random: Random, quantiles: Quantiles): number {
  const share = random()
  const above = Math.max(
    1,
    quantiles.findIndex(([upTo]) => share < upTo),
  )
  const [fromShare, from] = quantiles[above - 1] ?? [0, 1]
  const [toShare, to] = quantiles[above] ?? [1, from]
  return from * (to / from) ** ((share - fromShare) / (toShare - fromShare))
}
