import { contextVariant } from '../../fleet/variant.ts'
import type { NodeFacts, RunnerFacts } from '../events.ts'
import type { Learning } from '../learning/learning.ts'
import { type HostNode, type Residence, Runner, type Swap } from './runner.ts'

/** Callers choose variants: so many that are not loaded are remembered. */
const idleKept = 200

/** What one node has in memory: as facts tell it, and for a while after a swap as that left it. */
export class NodeMemory {
  readonly #node: HostNode
  readonly #learning: Learning
  /** In memory, by model: Ollama keeps one runner of a model. */
  readonly #loaded = new Map<string, Runner>()
  /** By model and variant. */
  readonly #idle = new Map<string, Runner>()
  /** Until when we know better than facts what is in memory, by model. */
  readonly #settling = new Map<string, number>()
  /** Bytes that were seen at once at most. */
  #mostSeen = 0
  /** It made room by itself when we had a model loaded: what was seen in its memory at once is all that fits. */
  #isFull = false

  constructor(node: HostNode, learning: Learning) {
    this.#node = node
    this.#learning = learning
  }

  get loaded(): ReadonlyMap<string, Runner> {
    return this.#loaded
  }

  /** Whether facts may tell something new even where they are those of last time. */
  get isSettling(): boolean {
    return this.#settling.size > 0
  }

  /** Runners that have requests, though their model is not in memory: Ollama has to load it for them. */
  *unloadedInUse(): Iterable<Runner> {
    for (const runner of this.#idle.values()) if (runner.inFlight.size > 0) yield runner
  }

  /**
   * Bytes for models: configured; else without limit until it was seen to make room by itself, and then what was seen to
   * fit. The largest model alone is taken to.
   */
  bytes({ memory, models }: NodeFacts): number {
    if (memory !== null) return memory
    if (!this.#isFull) return Number.POSITIVE_INFINITY
    let largest = this.#mostSeen
    for (const bytes of models.values()) largest = Math.max(largest, bytes)
    return largest
  }

  /** The runner of a variant, loaded or not. */
  runner(model: string, variant: string): Runner {
    const loaded = this.#loaded.get(model)
    if (loaded?.serves(variant)) return loaded
    const key = keyOf({ model, variant })
    const known = this.#idle.get(key)
    if (known) return known
    const { name, swap } = this.#node
    const made = new Runner(this.#node, model, variant, this.#learning.runner(name, model, variant))
    this.#idle.set(key, made)
    for (const [old, runner] of this.#idle) {
      if (this.#idle.size <= idleKept) break
      if (runner.inFlight.size === 0 && runner !== swap?.runner && runner !== made) this.#idle.delete(old)
    }
    return made
  }

  /** Takes in what is known from outside; what a swap has just done counts for more. */
  update({ resident }: NodeFacts, now: number): void {
    for (const [model, until] of this.#settling) if (until <= now) this.#settling.delete(model)
    let bytes = 0
    for (const { sizeVram } of resident) bytes += sizeVram
    this.#mostSeen = Math.max(this.#mostSeen, bytes)
    const seen = new Set(resident.map(({ model }) => model))
    for (const runner of [...this.#loaded.values()])
      if (!seen.has(runner.model) && !this.#isOurs(runner.model, now)) {
        this.#isFull ||= this.isSettling
        this.#unload(runner)
      }
    for (const fact of resident) if (!this.#isOurs(fact.model, now)) this.#see(fact)
  }

  /**
   * A swap is over that was asked for, and its victims are gone, but for those that the node kept.
   *
   * @param size bytes of the model that was loaded; null when it was not.
   * @param until when facts may still be older than this.
   */
  swapped({ runner, victims }: Swap, kept: readonly string[], size: number | null, until: number): void {
    for (const victim of victims) {
      if (kept.includes(victim.model)) continue
      this.#settling.set(victim.model, until)
      this.#unload(victim)
    }
    if (size === null) return
    this.#settling.set(runner.model, until)
    this.#load(runner, { size, sizeVram: size, contextLength: 0 }, false)
  }

  /** A model in memory according to facts. */
  #see(fact: RunnerFacts): void {
    const { model, variant, size, sizeVram, contextLength } = fact
    const residence = { size, sizeVram, contextLength }
    const known = this.#loaded.get(model)?.residence
    // The same object: what is cached there still is.
    if (known && this.#knows(fact)) Object.assign(known, residence)
    // Whoever had it loaded, its context tells whom it serves.
    else this.#load(this.runner(model, variant ?? contextVariant(contextLength)), residence, variant === null)
  }

  /** Whether facts speak of the runner that we know, rather than of one with other options. */
  #knows({ model, variant, contextLength }: RunnerFacts): boolean {
    const loaded = this.#loaded.get(model)
    if (!loaded?.residence) return false
    if (variant !== null) return variant === loaded.variant
    const known = loaded.residence.contextLength
    return known === 0 || known === contextLength
  }

  #load(runner: Runner, residence: Residence, isForeign: boolean): void {
    const before = this.#loaded.get(runner.model)
    if (before && before !== runner) this.#unload(before)
    this.#idle.delete(keyOf(runner))
    this.#loaded.set(runner.model, runner)
    runner.residence = residence
    runner.isForeign = isForeign
  }

  #unload(runner: Runner): void {
    if (this.#loaded.get(runner.model) !== runner) return
    this.#loaded.delete(runner.model)
    this.#idle.set(keyOf(runner), runner)
    runner.residence = null
    runner.isForeign = false
  }

  /** Whether we know better than facts where a model is: a swap has just moved it, or does. */
  #isOurs(model: string, now: number): boolean {
    const { swap } = this.#node
    const isSwapping = swap !== null && swap.askedAt !== null
    if (isSwapping && (swap.runner.model === model || swap.victims.some((victim) => victim.model === model)))
      return true
    return (this.#settling.get(model) ?? Number.NEGATIVE_INFINITY) > now
  }
}

function keyOf({ model, variant }: Pick<Runner, 'model' | 'variant'>): string {
  return `${model}\n${variant}`
}
