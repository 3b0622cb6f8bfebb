import type { CandidateLists } from '../cost/candidate-lists.ts'
import type { Candidates } from '../cost/candidates.ts'
import type { FleetState } from '../fleet/fleet-state.ts'
import type { NodeState } from '../fleet/node-state.ts'
import type { Runner } from '../fleet/runner.ts'
import type { Parameters } from '../parameters.ts'
import type { QueueEntry } from '../queue-entry.ts'
import type { FairQueue } from './fair-queue.ts'

/** This instance needs a node for a model (see NodeClaim). */
export interface Claim {
  readonly model: string
  /** Since when the load or the first request waits, in monotonic seconds. */
  readonly since: number
  /** The models that make room; null: Ollama chooses them. */
  readonly victims: readonly string[] | null
  /** Models to unload, once the other instances have left the node to this one; empty until then. */
  readonly inTheWay: readonly string[]
}

type SwapParameters = Parameters['swaps']

interface ClaimParts {
  readonly fleet: FleetState
  readonly lists: CandidateLists
  readonly queue: FairQueue
  readonly parameters: SwapParameters
}

/**
 * Finds the waits that only other instances can end: Ollama unloads a model once it is idle, and they keep it busy. Each node
 * has at most one claim, the first of: a load of this instance, a request in flight for a model that has left the node's
 * memory since, a queued request for a model that is in memory nowhere.
 */
export function claimsOf(
  { fleet, lists, queue, parameters }: ClaimParts,
  now: number,
): ReadonlyMap<string, Claim> {
  const claims = new Map<string, Claim>()
  for (const node of fleet.nodes) {
    const claim = loadClaim(node, parameters, now) ?? sentClaim(node, parameters, now)
    if (claim) claims.set(node.name, claim)
  }
  const seen = new Set<Candidates>()
  for (const entry of queue.all()) {
    const { request, since } = entry
    if (now < since + parameters.claimS) break // the queue is in order of arrival
    const list = lists.of(request, now)
    if (seen.has(list)) continue
    seen.add(list)
    const node = nodeFor(entry, list, now)
    if (node !== null && !claims.has(node))
      claims.set(node, { model: request.model, since, victims: null, inTheWay: [] })
  }
  return claims
}

/** The claim of a load under way: its victims get no new requests, and once the load is late, no other model does. */
function loadClaim(node: NodeState, { claimS }: SwapParameters, now: number): Claim | null {
  const { swap } = node
  if (!swap || swap.requestedAt === null) return null
  const { runner, requestedAt, victims } = swap
  const isLate = now >= requestedAt + lateS(runner, claimS)
  if (!isLate && victims.length === 0) return null
  const { model } = runner
  if (isLate) return { model, since: requestedAt, victims: null, inTheWay: inTheWay(node, model) }
  return { model, since: requestedAt, victims: victims.map((victim) => victim.model), inTheWay: [] }
}

function sentClaim(node: NodeState, { claimS }: SwapParameters, now: number): Claim | null {
  let first: Claim | null = null
  for (const runner of node.unloadedInUse)
    for (const { startedAt, firstTokenAt } of runner.inFlight.values()) {
      const isLate = firstTokenAt === null && now >= startedAt + lateS(runner, claimS)
      if (isLate && !(first && first.since <= startedAt))
        first = { model: runner.model, since: startedAt, victims: null, inTheWay: [] }
    }
  return first && { ...first, inTheWay: inTheWay(node, first.model) }
}

/** Seconds after which a load is late. A slow disk alone must not hold up the other models of a node. */
function lateS(runner: Runner, claimS: number): number {
  return 2 * runner.loadS + claimS
}

/** The models that keep a model out of memory, although the node is held for it and no other model runs requests. */
function inTheWay({ facts, loaded }: NodeState, model: string): readonly string[] {
  const { hold, room } = facts
  if (hold?.model !== model || room === 'free' || room === 'none') return []
  const others = [...loaded.values()].filter((runner) => runner.model !== model)
  return others.some(({ inFlight }) => inFlight.size > 0) ? [] : others.map((runner) => runner.model)
}

/**
 * The node that a queued request needs: the first by name where only requests of other instances prevent a load. Null if the
 * request has a place, now or later.
 */
function nodeFor(entry: QueueEntry, list: Candidates, now: number): string | null {
  list.computeLoads(Number.POSITIVE_INFINITY, now)
  let first: string | null = null
  for (const [row, runner] of list.runners.entries()) {
    if (!list.admits(row, entry)) continue
    const { node } = runner
    if (runner.residence || list.start(row) < Number.POSITIVE_INFINITY) return null
    const isKeptBusy =
      node.facts.room === 'free' && !node.swap && !runner.barrier && !node.pauseOf(runner, now)
    if (isKeptBusy && (first === null || node.name < first)) first = node.name
  }
  return first
}
