import { contextVariant } from '../../fleet/models/variant.ts'
import type { NodeFacts, RunnerFacts } from '../events.ts'
import type { Learning } from '../learning/learning.ts'
import { type HostNode, type Residence, Runner, type Swap } from './runner.ts'

/** Runners that are kept although they are not loaded: callers choose variants. */
const idleKept = 200

/** What one node has in memory: by facts, and for a while after a swap by the result of the swap. */
export class NodeMemory {
  readonly #node: HostNode
  readonly #learning: Learning
  /** In memory, by model: Ollama keeps one runner of a model. */
  readonly #loaded = new Map<string, Runner>()
  /** By model and variant. */
  readonly #idle = new Map<string, Runner>()
  /** Until when the result of a swap overrides facts, by model. */
  readonly #settling = new Map<string, number>()
  /** Most bytes that were seen in memory at once. */
  #mostSeen = 0
  /** The node evicted a model by itself after a load of ours: no more fits than was seen at once. */
  #isFull = false

  constructor(node: HostNode, learning: Learning) {
    this.#node = node
    this.#learning = learning
  }

  get loaded(): ReadonlyMap<string, Runner> {
    return this.#loaded
  }

  /** Whether unchanged facts may still bring news, because a swap overrides them. */
  get isSettling(): boolean {
    return this.#settling.size > 0
  }

  /** Runners with requests in flight whose model is not in memory: Ollama has to load it for them. */
  *unloadedInUse(): Iterable<Runner> {
    for (const runner of this.#idle.values()) if (runner.inFlight.size > 0) yield runner
  }

  /**
   * Bytes for models: as configured; else no limit until the node evicted a model by itself, and then the most that was
   * seen in memory. The largest model alone always counts as fitting.
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

  /** Takes in facts; the result of a recent swap overrides them. */
  update({ resident }: NodeFacts, now: number): void {
    for (const [model, until] of this.#settling) if (until <= now) this.#settling.delete(model)
    let bytes = 0
    for (const { sizeVram } of resident) bytes += sizeVram
    this.#mostSeen = Math.max(this.#mostSeen, bytes)
    const seen = new Set(resident.map(({ model }) => model))
    for (const runner of [...this.#loaded.values()])
      if (!seen.has(runner.model) && !this.#isOverridden(runner.model, now)) {
        this.#isFull ||= this.isSettling
        this.#unload(runner)
      }
    for (const fact of resident) if (!this.#isOverridden(fact.model, now)) this.#addSeen(fact)
  }

  /**
   * A requested swap is over. Its victims are gone, except those that the node kept.
   *
   * @param size bytes of the loaded model; null: it was not loaded.
   * @param until when facts may still be older than the swap.
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

  /** Facts show a model in memory. */
  #addSeen(fact: RunnerFacts): void {
    const { model, variant, size, sizeVram, contextLength } = fact
    const residence = { size, sizeVram, contextLength }
    const known = this.#loaded.get(model)?.residence
    // The same object: its prompt cache is still valid.
    if (known && this.#isKnown(fact)) Object.assign(known, residence)
    // Another client may have loaded it: its context tells which variants it serves.
    else this.#load(this.runner(model, variant ?? contextVariant(contextLength)), residence, variant === null)
  }

  /** Whether facts mean the known runner, rather than one with other options. */
  #isKnown({ model, variant, contextLength }: RunnerFacts): boolean {
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

  /** Whether a swap overrides facts about a model: one has just moved it, or is moving it. */
  #isOverridden(model: string, now: number): boolean {
    const { swap } = this.#node
    const isSwapping = swap !== null && swap.requestedAt !== null
    if (isSwapping && (swap.runner.model === model || swap.victims.some((victim) => victim.model === model)))
      return true
    return (this.#settling.get(model) ?? Number.NEGATIVE_INFINITY) > now
  }
}

function keyOf({ model, variant }: Pick<Runner, 'model' | 'variant'>): string {
  return `${model}\n${variant}`
}
