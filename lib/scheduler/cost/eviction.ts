import type { HostNode, Runner } from '../fleet/runner.ts'
import { endsOf } from './completion.ts'
import type { CostContext } from './cost-context.ts'
import type { PricedVictim } from './victim-prices.ts'

/** The models to evict before a runner can be loaded, and the cost. */
export interface Eviction {
  readonly victims: readonly Runner[]
  /** When the last request of a victim will have ended, in monotonic seconds. */
  readonly drainedAt: number
  /** Seconds that other requests will lose without the victims. */
  readonly penalty: number
  /** Allowed only for a request that can use no other runner: many instances that evict would undo each other's loads. */
  readonly isLastResort: boolean
}

/**
 * The cheapest way to make room for a runner on its node. Null: a swap is under way there, the same swap failed a moment
 * ago, or this instance may not make the room. A model that is larger than the memory gets all of it: Ollama offloads the
 * rest to the CPU.
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

/** The cheapest victims that make enough room. */
function chooseVictims(runner: Runner, context: CostContext, now: number): readonly PricedVictim[] {
  const { node } = runner
  const { fleet, parameters } = context
  const priced = victimsOf(node, context, now)
  let room = node.memory - fleet.size(runner)
  let places = (node.facts.maxLoaded ?? parameters.swaps.maxLoaded) - 1 - priced.length
  for (const { size } of priced) room -= size
  const chosen: PricedVictim[] = []
  const evict = (each: PricedVictim) => {
    chosen.push(each)
    room += each.size
    places++
  }
  // Another variant of the model is evicted in any case: Ollama keeps one runner per model.
  const other = priced.find(({ victim }) => victim.model === runner.model)
  if (other) evict(other)
  for (const each of priced) if ((room < 0 || places < 0) && each !== other) evict(each)
  // A later victim may have made enough room alone: spare those that are not needed.
  for (const each of chosen.toReversed()) {
    if (each === other || room < each.size || places < 1) continue
    chosen.splice(chosen.indexOf(each), 1)
    room -= each.size
    places--
  }
  return chosen
}

/** The models in memory, the cheapest to evict first: computed once for all that want their room. */
function victimsOf(node: HostNode, context: CostContext, now: number): readonly PricedVictim[] {
  const { tickS } = context.parameters.queue
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

/** Seconds to load the victim again, times the probability of a request soon; less if it has replicas (docs/routing.md#cost). */
function missed(victim: Runner, { fleet, learning, parameters }: CostContext, now: number): number {
  const { missedS, replicas: weight } = parameters.cost
  const replicas = fleet.replicas(victim)
  const again = victim.pace.node.loadS(victim.node.facts.models.get(victim.model) ?? fleet.size(victim))
  const arrivalRate = learning.arrivalRate(victim.model, (variant) => victim.serves(variant), now)
  const likely = Math.min(1, arrivalRate * missedS)
  return (again * likely) / (replicas > 1 ? Math.max(1, weight * replicas) : 1)
}
