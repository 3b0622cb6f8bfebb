import type { LoadSummary, NodeClaim, NodeHold } from '../../fleet/instance.ts'

/** A claim holds a node for at most so long, and after a hold that ended so the node is held for none. Milliseconds. */
const holdMs = 30_000
const restMs = 30_000

interface Claim extends NodeClaim {
  /** Instance and node: each instance has one claim per node. */
  readonly key: string
}

/** A claim that holds its node, or has held it for as long as it may. */
interface Holding {
  readonly claimedSince: number
  readonly model: string
  /** Monotonic milliseconds. */
  readonly since: number
}

/**
 * Which nodes are held for a model, by the claims of all instances. The oldest claim of a node is granted. All instances see
 * the same claims, so they hold a node for the same model. A claim holds its node once, for 30 s at most: a hold is advice,
 * and neither a hanging node nor a dead store stops requests for longer.
 */
export class NodeHolds {
  /** By claim. */
  readonly #holdings = new Map<string, Holding>()
  /** Until when a node is not held, in monotonic milliseconds. */
  readonly #restsUntil = new Map<string, number>()

  /** @param loads load summary of each instance, this one included, by id. */
  update(loads: ReadonlyMap<string, LoadSummary>, now: number): ReadonlyMap<string, NodeHold> {
    const claims = claimsByNode(loads)
    this.#forget(claims, now)
    const holds = new Map<string, NodeHold>()
    for (const [node, claimed] of claims) {
      const granted = this.#grant(node, claimed, now)
      if (granted) holds.set(node, { model: granted.model, victims: granted.victims ?? null })
    }
    return holds
  }

  /** The oldest claim that has not held the node for as long as it may; null while the node rests after one that has. */
  #grant(node: string, claims: readonly Claim[], now: number): Claim | null {
    for (const claim of claims) {
      if (now < (this.#restsUntil.get(node) ?? Number.NEGATIVE_INFINITY)) return null
      const endsAt = this.#heldSince(claim, now) + holdMs
      if (now < endsAt) return claim
      if (now < endsAt + restMs) this.#restsUntil.set(node, endsAt + restMs)
    }
    return null
  }

  /** Since when the claim holds its node: from now on, if it did not before. */
  #heldSince({ key, model, since }: Claim, now: number): number {
    const known = this.#holdings.get(key)
    if (known?.claimedSince === since && known.model === model) return known.since
    this.#holdings.set(key, { claimedSince: since, model, since: now })
    return now
  }

  #forget(claims: ReadonlyMap<string, readonly Claim[]>, now: number): void {
    for (const [node, until] of this.#restsUntil) if (until <= now) this.#restsUntil.delete(node)
    const keys = new Set([...claims.values()].flat().map(({ key }) => key))
    for (const key of this.#holdings.keys()) if (!keys.has(key)) this.#holdings.delete(key)
  }
}

/** The claims on each node, the oldest first. */
function claimsByNode(loads: ReadonlyMap<string, LoadSummary>): ReadonlyMap<string, readonly Claim[]> {
  const byNode = new Map<string, Claim[]>()
  for (const [id, { claims = {} }] of loads)
    for (const [node, claim] of Object.entries(claims)) {
      const all = byNode.get(node) ?? []
      byNode.set(node, all)
      all.push({ ...claim, key: `${id}\n${node}` })
    }
  for (const claims of byNode.values()) claims.sort((a, b) => a.since - b.since || (a.key < b.key ? -1 : 1))
  return byNode
}
