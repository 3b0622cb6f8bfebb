import type { NodeClaim } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Claim } from './claims.ts'

/** Milliseconds after which an unload is requested again. */
const unloadAgainMs = 15_000

interface Published {
  readonly claim: Claim
  readonly published: NodeClaim
  /** When an unload was requested last, in monotonic milliseconds. */
  readonly unloadedAt: number
}

interface NodeClaimsOptions<Node> {
  /** Unloads models that run no requests from a node. */
  readonly loader: { unload(node: Node, models: readonly string[]): Promise<void> }
  readonly node: (name: string) => Node | undefined
  readonly clock: Pick<Clock, 'now' | 'date'>
}

/**
 * Publishes the claims of this instance to the others. Once they have left a node to it, it unloads the models in the way:
 * Ollama forgets a planned unload when a request with `keep_alive` arrives (ollama#17408).
 */
export class NodeClaims<Node> {
  readonly #options: NodeClaimsOptions<Node>
  #published: ReadonlyMap<string, Published> = new Map()

  constructor(options: NodeClaimsOptions<Node>) {
    this.#options = options
  }

  /** Call it once a second. @param now monotonic seconds. */
  update(claims: ReadonlyMap<string, Claim>, now: number): Readonly<Record<string, NodeClaim>> {
    const claimed = Array.from(claims, ([node, claim]) => [node, this.#publish(node, claim, now)] as const)
    this.#published = new Map(claimed)
    return Object.fromEntries(claimed.map(([node, { published }]) => [node, published]))
  }

  #publish(node: string, claim: Claim, now: number): Published {
    const { model, since, victims } = claim
    const last = this.#published.get(node)
    const known = last?.claim.since === since && last.claim.model === model ? last : null
    // The others tell claims apart by this time, so it is computed once.
    const wallSince = known?.published.since ?? this.#unixMs(now - since)
    return {
      claim,
      published: { model, since: wallSince, ...(victims && { victims }) },
      unloadedAt: this.#unload(node, claim, known?.unloadedAt ?? Number.NEGATIVE_INFINITY),
    }
  }

  #unixMs(secondsAgo: number): number {
    return Math.round(this.#options.clock.date().getTime() - 1000 * secondsAgo)
  }

  /** Returns when an unload was requested last. */
  #unload(name: string, { inTheWay }: Claim, unloadedAt: number): number {
    const { loader, node, clock } = this.#options
    const view = node(name)
    if (!view || inTheWay.length === 0 || clock.now() < unloadedAt + unloadAgainMs) return unloadedAt
    // A failed unload shows in the node's memory, and is repeated.
    void loader.unload(view, inTheWay).catch(() => {})
    return clock.now()
  }
}
