import type { HostNode, Runner } from '../fleet/runner.ts'
import { endsOf } from './completion.ts'
import type { CostContext } from './context.ts'
import type { PricedVictim } from './victim-prices.ts'

/** What must go for a runner to be loaded, and what that costs. */
export interface Eviction {
  readonly victims: readonly Runner[]
  /** When the last victim will have run dry, in monotonic seconds. */
  readonly drainedAt: number
  /** Seconds that others will miss the victims for. */
  readonly penalty: number
  /** Only for a request that can use no other runner of the model: where many instances evict, each undoes the others' loads. */
  readonly isLastResort: boolean
}

/**
 * The cheapest room for a runner on its node, or null while none can be made: a swap is under way there, or the same came
 * to nothing just now, or it is not for this instance to make it. A model that is larger than the memory may have it
 * alone: Ollama puts the rest elsewhere.
 */
export function evictionFor(runner: Runner, context: CostContext, now: number): Eviction | null {
  const { node } = runner
  const { room = 'any' } = node.facts
  if (node.swap || room === 'none' || node.pauseOf(runner, now)) return null
  const chosen = chooseVictims(runner, context, now)
  if (chosen.length > 0 && room === 'free') return null
  let [drainedAt, penalty] = [now, 0]
  for (const each of chosen) {
    drainedAt = Math.max(drainedAt, each.drainedAt)
    penalty += each.penalty
  }
  const isLastResort = chosen.length > 0 && room === 'missing'
  return { victims: chosen.map(({ victim }) => victim), drainedAt, penalty, isLastResort }
}

/** The cheapest that make room enough. */
function chooseVictims(runner: Runner, context: CostContext, now: number): readonly PricedVictim[] {
  const { node } = runner
  const { fleet, rules } = context
  const priced = victimsOf(node, context, now)
  let room = node.memory - fleet.size(runner)
  let places = (node.facts.maxLoaded ?? rules.swaps.maxLoaded) - 1 - priced.length
  for (const { size } of priced) room -= size
  const chosen: PricedVictim[] = []
  const evict = (each: PricedVictim) => {
    chosen.push(each)
    room += each.size
    places++
  }
  // Another variant of the model makes room in any case: Ollama keeps one.
  const other = priced.find(({ victim }) => victim.model === runner.model)
  if (other) evict(other)
  for (const each of priced) if ((room < 0 || places < 0) && each !== other) evict(each)
  // The last one may have made the room alone.
  for (const each of chosen.toReversed()) {
    if (each === other || room < each.size || places < 1) continue
    chosen.splice(chosen.indexOf(each), 1)
    room -= each.size
    places--
  }
  return chosen
}

/** The models in memory, the cheapest to be without first: worked out once for all that want their room. */
function victimsOf(node: HostNode, context: CostContext, now: number): readonly PricedVictim[] {
  const { tickS } = context.rules.queue
  const last = context.victims.get(node)
  if (last?.stamp === node.stamp && now < last.at + tickS) return last.victims
  const victims = Array.from(node.loaded.values(), (victim) => {
    const penalty = missed(victim, context, now)
    const drainedAt = Math.max(now, ...endsOf(victim, context, now))
    return { victim, size: context.fleet.size(victim), penalty, drainedAt, price: penalty + drainedAt - now }
  })
  victims.sort((a, b) => a.price - b.price)
  context.victims.set(node, { stamp: node.stamp, at: now, victims })
  return victims
}

/** Seconds to load it again, by how likely it is to be asked for soon; less where it has replicas (docs/routing.md#cost). */
function missed(victim: Runner, { fleet, learning, rules }: CostContext, now: number): number {
  const { missedS, replicas: weight } = rules.cost
  const replicas = fleet.replicas(victim)
  const again = victim.pace.node.loadS(victim.node.facts.models.get(victim.model) ?? fleet.size(victim))
  const arrivalRate = learning.arrivalRate(victim.model, (variant) => victim.serves(variant), now)
  const likely = Math.min(1, arrivalRate * missedS)
  return (again * likely) / (replicas > 1 ? Math.max(1, weight * replicas) : 1)
}
