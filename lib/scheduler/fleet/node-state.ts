import type { NodeFacts } from '../events.ts'
import { GpuClock } from '../learning/contention.ts'
import type { Learning } from '../learning/learning.ts'
import type { Parameters } from '../parameters.ts'
import { NodeMemory } from './node-memory.ts'
import type { HostNode, InFlightRequest, Runner, Swap, SwapPause } from './runner.ts'

/** One node: its memory, its requests in flight, and the swap under way. */
export class NodeState implements HostNode {
  readonly name: string
  readonly gpu = new GpuClock()
  readonly #learning: Learning
  readonly #parameters: Parameters['swaps']
  readonly #memory: NodeMemory
  /** Until when no swap is tried again, and why, by runner. */
  readonly #paused = new Map<Runner, SwapPause>()
  #isSeen = false
  #facts: NodeFacts
  #swap: Swap | null = null
  #isTried = false
  #active = 0
  #stamp = 0
  #followers: (() => void)[] = []

  constructor(facts: NodeFacts, learning: Learning, parameters: Parameters['swaps']) {
    this.name = facts.name
    this.#facts = facts
    this.#learning = learning
    this.#parameters = parameters
    this.#memory = new NodeMemory(this, learning)
  }

  get facts(): NodeFacts {
    return this.#facts
  }

  get swap(): Swap | null {
    return this.#swap
  }

  /** Increases with every change that costs depend on. */
  get stamp(): number {
    return this.#stamp
  }

  touch(): void {
    this.#stamp++
    for (const tell of this.#followers) tell()
  }

  follow(changed: () => void): void {
    this.#followers.push(changed)
  }

  /** Forgets its followers. */
  unfollow(): void {
    this.#followers = []
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
    return this.#memory.loaded
  }

  /** Runners with requests in flight whose model is not in memory: Ollama has to load it for them. */
  get unloadedInUse(): Iterable<Runner> {
    return this.#memory.unloadedInUse()
  }

  /** Whether the trial request of its half-open breaker is under way. */
  get isTried(): boolean {
    return this.#isTried
  }

  /** Bytes for models. */
  get memory(): number {
    return this.#memory.bytes(this.#facts)
  }

  /** The runner of a variant, loaded or not. */
  runner(model: string, variant: string): Runner {
    return this.#memory.runner(model, variant)
  }

  /** Takes in facts; the result of a recent swap overrides them. The same object brings no news. */
  update(facts: NodeFacts, now: number): void {
    if (facts === this.#facts && !this.#memory.isSettling && this.#isSeen) return
    this.#facts = facts
    this.#isSeen = true
    // The cause of a failed load may be gone when the node is back.
    if (!facts.available || facts.advice === 'down') this.#paused.clear()
    this.#isTried = false
    this.#learning.node(this.name).expect(facts.expectedSpeed ?? 1)
    this.touch()
    this.#memory.update(facts, now)
  }

  began(inFlight: InFlightRequest): void {
    const { request, runner, isReading, startedAt } = inFlight
    runner.time.began(isReading, startedAt)
    runner.inFlight.set(request.id, inFlight)
    this.#active++
    this.#isTried = this.#facts.isOnTrial ?? false
    this.touch()
  }

  /** A request got its first token. */
  wrote(inFlight: InFlightRequest, now: number): void {
    const { time } = inFlight.runner
    if (inFlight.isReading) {
      inFlight.isReading = false
      time.promptRead(now)
      inFlight.wroteWith = time.read(now)
    }
    this.touch()
  }

  ended(inFlight: InFlightRequest, now: number): void {
    const { runner } = inFlight
    if (!runner.inFlight.delete(inFlight.request.id)) return
    runner.time.ended(inFlight.isReading, now)
    this.#active--
    this.touch()
  }

  beginSwap(runner: Runner, victims: readonly Runner[], now: number): void {
    this.#swap = { runner, victims, since: now, requestedAt: null }
    this.touch()
  }

  /** The requests of the victims have ended, and the load was requested. */
  loadRequested(now: number): void {
    if (this.#swap) this.#swap = { ...this.#swap, requestedAt: now }
    this.#isTried = this.#facts.isOnTrial ?? false
    this.touch()
  }

  /** Ends the swap; victims that are still loaded may take requests again. */
  endSwap(): void {
    this.#swap = null
    this.touch()
  }

  /** A swap for the runner failed or was given up: it is not tried again for a while. @param isFailed the load itself failed. */
  pause(runner: Runner, isFailed: boolean, now: number): void {
    // Callers choose variants, so expired pauses must not pile up.
    for (const [other, { until }] of this.#paused) if (until <= now) this.#paused.delete(other)
    this.#paused.set(runner, { until: now + this.#parameters.pauseS, isFailed })
  }

  /** The pause that keeps the runner from being loaded, if there is one. */
  pauseOf(runner: Runner, now: number): SwapPause | null {
    const pause = this.#paused.get(runner)
    return pause && now < pause.until ? pause : null
  }

  /**
   * The requested swap is over. Its victims are gone in any case, except those that the node kept.
   *
   * @param size bytes of the model in memory.
   */
  swapped(isLoaded: boolean, kept: readonly string[], size: number, now: number): void {
    const swap = this.#swap
    if (!swap) return
    this.#memory.swapped(swap, kept, isLoaded ? size : null, now + this.#parameters.settleS)
    this.endSwap()
  }
}
