import type { NodeFacts, RunnerFacts } from './events.ts'
import type { PricedVictims } from './eviction.ts'
import { Gpu } from './gpu-time.ts'
import type { Learning } from './learning.ts'
import type { Parameters } from './parameters.ts'
import { type Flight, type Residence, Runner } from './runner.ts'

/** A change of what a node has in memory: victims run dry, are unloaded, and the model is loaded (sheet routing.md §2.5). */
export interface Swap {
  readonly runner: Runner
  readonly victims: readonly Runner[]
  readonly since: number
  /** When the victims were dry, and the load was asked for; null until then. */
  readonly askedAt: number | null
}

interface Pause {
  /** Monotonic seconds. */
  readonly until: number
  readonly isFailed: boolean
}

/** Callers choose variants: so many that are not loaded are remembered. */
const idleKept = 200

/** One node: what it has in memory, what runs there, and the swap under way. */
export class NodeState {
  readonly name: string
  readonly gpu = new Gpu()
  readonly #learning: Learning
  readonly #rules: Parameters['swaps']
  /** In memory, by model: Ollama keeps one runner of a model. */
  readonly #loaded = new Map<string, Runner>()
  /** By model and variant. */
  readonly #idle = new Map<string, Runner>()
  /** Until when we know better than facts what is in memory, by model. */
  readonly #settling = new Map<string, number>()
  /** Until when no swap is tried again, by runner. */
  readonly #paused = new Map<Runner, Pause>()
  #mostSeen = 0
  /** It made room by itself when we had a model loaded: what was seen in its memory at once is all that fits. */
  #isFull = false
  #isSeen = false
  #facts: NodeFacts
  #swap: Swap | null = null
  #isTried = false
  #active = 0
  #stamp = 0
  /** Told of every change that costs depend on. */
  readonly followers: (() => void)[] = []
  /** What its models in memory are worth, as worked out last; by eviction.ts only. */
  priced: PricedVictims | null = null

  constructor(facts: NodeFacts, learning: Learning, rules: Parameters['swaps']) {
    this.name = facts.name
    this.#facts = facts
    this.#learning = learning
    this.#rules = rules
  }

  get facts(): NodeFacts {
    return this.#facts
  }

  get swap(): Swap | null {
    return this.#swap
  }

  /** Moves with everything that costs depend on. */
  get stamp(): number {
    return this.#stamp
  }

  touch(): void {
    this.#stamp++
    for (const tell of this.followers) tell()
  }

  /** Requests running. */
  get active(): number {
    return this.#active
  }

  /** Runners with requests running. */
  get busy(): number {
    return this.gpu.busy
  }

  get loaded(): ReadonlyMap<string, Runner> {
    return this.#loaded
  }

  /** Whether the one request that it is tried with has gone there, and nothing is known of it yet. */
  get isTried(): boolean {
    return this.#isTried
  }

  /**
   * Bytes for models: configured; else without limit until it was seen to make room by itself, and then what was seen to
   * fit. The largest model alone is taken to.
   */
  get memory(): number {
    if (this.#facts.memory !== null) return this.#facts.memory
    if (!this.#isFull) return Number.POSITIVE_INFINITY
    let largest = this.#mostSeen
    for (const bytes of this.#facts.models.values()) largest = Math.max(largest, bytes)
    return largest
  }

  /** The runner of a variant, loaded or not. */
  runner(model: string, variant: string): Runner {
    const loaded = this.#loaded.get(model)
    if (loaded?.serves(variant)) return loaded
    const key = `${model}\n${variant}`
    const known = this.#idle.get(key)
    if (known) return known
    const made = new Runner(this, model, variant, this.#learning.runner(this.name, model, variant))
    this.#idle.set(key, made)
    for (const [old, runner] of this.#idle) {
      if (this.#idle.size <= idleKept) break
      if (runner.flights.size === 0 && runner !== this.#swap?.runner && runner !== made)
        this.#idle.delete(old)
    }
    return made
  }

  /** Takes in what is known from outside; what a swap has just done counts for more. The same object tells nothing new. */
  look(facts: NodeFacts, now: number): void {
    if (facts === this.#facts && this.#settling.size === 0 && this.#isSeen) return
    this.#facts = facts
    this.#isSeen = true
    // Whatever a load failed of there, it may be over when the node is back.
    if (!facts.available) this.#paused.clear()
    this.#isTried = false
    this.#learning.node(this.name).expect(facts.expectedSpeed ?? 1)
    for (const [model, until] of this.#settling) if (until <= now) this.#settling.delete(model)
    this.touch()
    let inMemory = 0
    for (const { sizeVram } of facts.resident) inMemory += sizeVram
    this.#mostSeen = Math.max(this.#mostSeen, inMemory)
    const seen = new Map(facts.resident.map((runner) => [runner.model, runner]))
    for (const runner of [...this.#loaded.values()])
      if (!seen.has(runner.model) && !this.#isSettling(runner.model, now)) {
        this.#isFull ||= this.#settling.size > 0
        this.#unload(runner)
      }
    for (const runner of facts.resident) if (!this.#isSettling(runner.model, now)) this.#see(runner)
  }

  began(flight: Flight): void {
    const { flights } = flight.runner
    flight.runner.time.began(flight.isReading, flight.startedAt)
    flights.set(flight, flight)
    this.#active++
    this.#isTried = this.#facts.isOnTrial ?? false
    this.touch()
  }

  /** Its first token was written. */
  wrote(flight: Flight, now: number): void {
    const { time } = flight.runner
    if (flight.isReading) {
      flight.isReading = false
      time.turned(now)
      flight.wroteWith = time.read(now)
    }
    this.touch()
  }

  ended(flight: Flight, now: number): void {
    const { flights, time } = flight.runner
    if (!flights.delete(flight)) return
    time.ended(flight.isReading, now)
    this.#active--
    this.touch()
  }

  mark(runner: Runner, victims: readonly Runner[], now: number): void {
    this.#swap = { runner, victims, since: now, askedAt: null }
    this.touch()
  }

  /** The victims have run dry, and the load was asked for. */
  asked(now: number): void {
    if (this.#swap) this.#swap = { ...this.#swap, askedAt: now }
    this.#isTried = this.#facts.isOnTrial ?? false
    this.touch()
  }

  /** Lets the victims live. */
  unmark(): void {
    this.#swap = null
    this.touch()
  }

  /** A swap for the runner came to nothing: it is not tried again for a while. @param isFailed the load was tried, and failed. */
  pause(runner: Runner, isFailed: boolean, now: number): void {
    this.#paused.set(runner, { until: now + this.#rules.pauseS, isFailed })
  }

  /** What keeps the runner from being loaded, if anything does. */
  pauseOf(runner: Runner, now: number): Pause | null {
    const pause = this.#paused.get(runner)
    return pause && now < pause.until ? pause : null
  }

  /**
   * The swap that was asked for is over, and its victims are gone either way, but for those that the node kept.
   *
   * @param size bytes that the model takes.
   */
  swapped(isLoaded: boolean, kept: readonly string[], size: number, now: number): void {
    const swap = this.#swap
    if (!swap) return
    const until = now + this.#rules.settleS
    for (const victim of swap.victims) {
      if (kept.includes(victim.model)) continue
      this.#settling.set(victim.model, until)
      this.#unload(victim)
    }
    this.unmark()
    if (!isLoaded) return
    this.#settling.set(swap.runner.model, until)
    this.#load(swap.runner, { size, sizeVram: size, contextLength: 0 }, false)
  }

  /** A model in memory according to facts. */
  #see(fact: RunnerFacts): void {
    const { model, variant, size, sizeVram, contextLength } = fact
    const residence = { size, sizeVram, contextLength }
    const known = this.#loaded.get(model)?.residence
    // The same object: what is cached there still is.
    if (known && this.#knows(fact)) Object.assign(known, residence)
    // The text of fleet/variant.ts for requests that set the context only.
    else
      this.#load(this.runner(model, variant ?? `{"num_ctx":${contextLength}}`), residence, variant === null)
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
    this.#idle.delete(`${runner.model}\n${runner.variant}`)
    this.#loaded.set(runner.model, runner)
    runner.residence = residence
    runner.isForeign = isForeign
  }

  #unload(runner: Runner): void {
    if (this.#loaded.get(runner.model) !== runner) return
    this.#loaded.delete(runner.model)
    this.#idle.set(`${runner.model}\n${runner.variant}`, runner)
    runner.residence = null
    runner.isForeign = false
  }

  #isSettling(model: string, now: number): boolean {
    const swap = this.#swap
    const isSwapping = swap !== null && swap.askedAt !== null
    if (isSwapping && (swap.runner.model === model || swap.victims.some((victim) => victim.model === model)))
      return true
    return (this.#settling.get(model) ?? Number.NEGATIVE_INFINITY) > now
  }
}
