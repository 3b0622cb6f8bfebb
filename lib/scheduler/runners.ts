import type { Ask } from '../fleet/ask.ts'
import type { LoadedModel, NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { contextVariant } from '../fleet/variant.ts'
import type { Clock } from '../shared/clock.ts'

/**
 * What serving an ask costs a node. `same`: its runner fits. `none`: the model is not in memory. `other`: an idle runner
 * of another variant would be loaded again; `contended`: and somebody used that one just now.
 */
export type Residence = 'same' | 'none' | 'other' | 'contended'

interface Known {
  /** What this instance had loaded last, else what it sent first. */
  variant: string
  /** When the last request of this instance ended, in monotonic milliseconds. */
  usedAt: number
}

/**
 * The leader's probes show within a few seconds what is in memory, and until then a load of ours is remembered. A runner
 * that is used at least so often is not taken from its variant by one that has another.
 */
const freshMs = 10_000

/** What this instance knows of each node's runners beyond `/api/ps`, which tells their context but not who asked for it. */
export class Runners {
  readonly #clock: Clock
  readonly #byNode = new Map<string, Map<string, Known>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A request goes there; `loads` when its variant is loaded for it. */
  sent(node: string, { model, variant }: Ask, loads: boolean): void {
    const ofNode = this.#byNode.get(node) ?? new Map<string, Known>()
    this.#byNode.set(node, ofNode)
    const known = ofNode.get(model)
    if (!known) ofNode.set(model, { variant, usedAt: Number.NEGATIVE_INFINITY })
    else if (loads) known.variant = variant
  }

  /** A request ended there. */
  used(node: string, model: string): void {
    const known = this.#byNode.get(node)?.get(model)
    if (known) known.usedAt = this.#clock.now()
  }

  residence(node: NodeView, { model, variant }: Ask): Residence {
    const known = this.#byNode.get(node.name)?.get(model)
    const loaded = node.resident.get(model)
    if (loaded && fits(loaded, known?.variant ?? '', variant)) return 'same'
    if (known && known.variant !== variant && this.#isFresh(known)) return 'contended'
    return loaded ? 'other' : 'none'
  }

  /** Forgets what left the nodes' memory. */
  forgetGone({ nodes }: Snapshot, isRunning: (node: string, model: string) => boolean): void {
    for (const [node, ofNode] of this.#byNode) {
      for (const [model, known] of ofNode) {
        const isThere = nodes.get(node)?.resident.has(model) || isRunning(node, model)
        if (!isThere && !this.#isFresh(known)) ofNode.delete(model)
      }
      if (ofNode.size === 0) this.#byNode.delete(node)
    }
  }

  #isFresh({ usedAt }: Known): boolean {
    return this.#clock.now() - usedAt < freshMs
  }
}

/** A runner loaded with its node's own context also serves who asks for just as much (sheet ollama-api.md §2.3). */
function fits({ context_length }: LoadedModel, has: string, wanted: string): boolean {
  return has === wanted || (has === '' && wanted === contextVariant(context_length))
}
