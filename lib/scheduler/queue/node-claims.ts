import type { NodeClaim } from '../../fleet/instance.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Loader } from '../fleet/loader.ts'
import type { Claim } from './claims.ts'

/** Milliseconds after which a node is asked again to unload what is in the way. */
const askAgainMs = 15_000

interface Told {
  readonly claim: Claim
  readonly published: NodeClaim
  /** When the node was asked to unload what is in the way, in monotonic milliseconds. */
  readonly askedAt: number
}

interface NodeClaimsOptions {
  readonly loader: Pick<Loader, 'unload'>
  readonly node: (name: string) => NodeView | undefined
  readonly clock: Clock
}

/**
 * The claims of this instance, as the others are told of them. Once they have left a node to it, the models in the way are
 * unloaded: Ollama has forgotten that it wanted to unload them where a request with `keep_alive` came since (ollama#17408).
 */
export class NodeClaims {
  readonly #options: NodeClaimsOptions
  #told: ReadonlyMap<string, Told> = new Map()

  constructor(options: NodeClaimsOptions) {
    this.#options = options
  }

  /** To be called once a second. @param now monotonic seconds. */
  update(claims: ReadonlyMap<string, Claim>, now: number): Readonly<Record<string, NodeClaim>> {
    const told = Array.from(claims, ([node, claim]) => [node, this.#tell(node, claim, now)] as const)
    this.#told = new Map(told)
    return Object.fromEntries(told.map(([node, { published }]) => [node, published]))
  }

  #tell(node: string, claim: Claim, now: number): Told {
    const { model, since, victims } = claim
    const last = this.#told.get(node)
    const known = last?.claim.since === since && last.claim.model === model ? last : null
    // The others tell claims apart by this time, so it is worked out once.
    const wallSince = known?.published.since ?? this.#unixMs(now - since)
    return {
      claim,
      published: { model, since: wallSince, ...(victims && { victims }) },
      askedAt: this.#unload(node, claim, known?.askedAt ?? Number.NEGATIVE_INFINITY),
    }
  }

  #unixMs(secondsAgo: number): number {
    return Math.round(this.#options.clock.date().getTime() - 1000 * secondsAgo)
  }

  /** When the node was asked last, now included. */
  #unload(name: string, { inTheWay }: Claim, askedAt: number): number {
    const { loader, node, clock } = this.#options
    const view = node(name)
    if (!view || inTheWay.length === 0 || clock.now() < askedAt + askAgainMs) return askedAt
    // What came of it is seen in the node's memory.
    void loader.unload(view, inTheWay).catch(() => {})
    return clock.now()
  }
}
