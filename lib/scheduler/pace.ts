import type { Parameters } from './parameters.ts'
import { type MeanRecord, RunningMean } from './running-mean.ts'
import { SlotCount } from './slot-count.ts'
import { Slowdown } from './slowdown.ts'

/** A decode of fewer tokens says nothing about speed, nor does a prefill of fewer (sheet routing.md §2.2). */
const leastTokens = 4
const leastPrefill = 64
/** Loads shorter than these were none; a second of each is no reading (sheet routing.md §2.2). */
const leastLoadS = 0.5
const loadOverheadS = 1

/** How fast one node is, whatever it runs. */
export class NodePace {
  readonly #rules: Parameters
  /** Logarithms: a speed twice as high is as far away as one half as high. */
  readonly #logSpeed: RunningMean
  readonly #disk: RunningMean
  readonly #slowdown: Slowdown
  #expectedLogSpeed = 0
  #speed = 1

  constructor(rules: Parameters) {
    this.#rules = rules
    this.#logSpeed = new RunningMean(rules.learning.speedMemory)
    this.#disk = new RunningMean(rules.learning.diskMemory)
    this.#slowdown = new Slowdown(rules.learning.slowdown)
  }

  /** Against a node of speed 1. */
  get speed(): number {
    return this.#speed
  }

  /** How fast it is taken to be while nothing is learned. */
  expect(speed: number): void {
    this.#expectedLogSpeed = Math.log(speed)
    this.#measure()
  }

  /** By how much one more stream slows the others of its runner. */
  get slowdown(): number {
    return this.#slowdown.perStream
  }

  /** Seconds to load a model of so many bytes. */
  loadS(bytes: number): number {
    return loadOverheadS + bytes / this.#disk.or(this.#rules.learning.diskBytesPerS)
  }

  loaded(bytes: number, seconds: number): void {
    if (seconds > leastLoadS) this.#disk.add(bytes / Math.max(0.1, seconds - loadOverheadS))
  }

  decoded(speed: number): void {
    this.#logSpeed.add(Math.log(speed))
    this.#measure()
  }

  shared(others: number, ratio: number): void {
    this.#slowdown.add(others, ratio)
  }

  record(): { speed: MeanRecord; disk: MeanRecord } {
    return { speed: this.#logSpeed.record(), disk: this.#disk.record() }
  }

  restore({ speed, disk }: { speed: MeanRecord; disk: MeanRecord }): void {
    this.#logSpeed.restore(speed)
    if (disk.mean > 0) this.#disk.restore(disk)
    this.#measure()
  }

  /** Asked for far more often than it changes. */
  #measure(): void {
    if (this.#rules.uses.speed) this.#speed = Math.exp(this.#logSpeed.or(this.#expectedLogSpeed))
  }
}

/** What else ran beside a request, on average between its start and its end. */
export interface Company {
  /** Streams of the same runner, itself included. */
  readonly streams: number
  /** Busy runners of the node, its own included. */
  readonly runners: number
}

/** A prompt that was read, in tokens. */
interface PromptRead {
  /** In all, as far as that is known. */
  readonly tokens: number
  /** Expected to be cached, before `cachedShare`. */
  readonly expected: number
  /** Those that were not cached; null where the node does not tell them from the others. */
  readonly evaluated: number | null
}

/** What is stored of a runner. */
export interface PaceRecord {
  readonly decode: MeanRecord
  readonly prefill: MeanRecord
  readonly slots: number | null
}

/** How fast one node runs one variant. `bytes` is the model's size, as slow as it behaves. */
export class RunnerPace {
  readonly node: NodePace
  readonly slots: SlotCount
  readonly #rules: Parameters
  readonly #decode: RunningMean
  readonly #prefill: RunningMean
  /** Which share of the tokens that were expected to be cached was. */
  readonly #cached: RunningMean

  constructor(node: NodePace, rules: Parameters) {
    const { memory } = rules.learning
    this.node = node
    this.slots = new SlotCount(rules.slots)
    this.#rules = rules
    this.#decode = new RunningMean(memory)
    this.#prefill = new RunningMean(memory)
    this.#cached = new RunningMean(memory)
  }

  /** Seconds per output token of a lone stream. */
  secondsPerToken(bytes: number): number {
    const { decodeBytesPerS, priorWeight } = this.#rules.learning
    const prior = bytes / (decodeBytesPerS * this.node.speed)
    return this.#rules.uses.speed ? this.#decode.shrunk(prior, priorWeight) : prior
  }

  /** Prompt tokens per second of a lone request. */
  prefillRate(bytes: number): number {
    const { prefillBytesPerS, priorWeight } = this.#rules.learning
    const prior = (prefillBytesPerS * this.node.speed) / bytes
    return this.#rules.uses.speed ? this.#prefill.shrunk(prior, priorWeight) : prior
  }

  /** How many of the tokens that the prefix map promises are worth counting on. */
  get cachedShare(): number {
    return this.#cached.shrunk(1, this.#rules.learning.priorWeight)
  }

  /** @param tokens written in so many seconds. */
  decoded(tokens: number, seconds: number, { streams, runners }: Company, bytes: number): void {
    if (tokens < leastTokens || !(seconds > 0)) return
    const each = seconds / tokens / runners
    this.node.shared(streams - 1, each / this.secondsPerToken(bytes))
    const alone = each / (1 + this.node.slowdown * (streams - 1))
    this.#decode.add(alone)
    this.node.decoded(bytes / (this.#rules.learning.decodeBytesPerS * alone))
  }

  prefilled(
    { tokens, expected, evaluated }: PromptRead,
    seconds: number,
    { runners }: Company,
    bytes: number,
  ): void {
    if (!(seconds > 0)) return
    const rate = this.prefillRate(bytes)
    if (expected > 0) {
      const cached = Math.max(0, tokens - (evaluated ?? (rate * seconds) / runners))
      this.#cached.add(Math.min(1, cached / expected))
    }
    const read = evaluated ?? tokens - (expected > 0 ? expected * this.cachedShare : 0)
    if (read <= (expected > 0 ? leastPrefill : 0)) return
    const seen = (read / seconds) * runners
    this.#prefill.add(Math.min(4 * rate, Math.max(rate / 4, seen)))
  }

  record(): PaceRecord {
    return { decode: this.#decode.record(), prefill: this.#prefill.record(), slots: this.slots.record() }
  }

  restore({ decode, prefill, slots }: PaceRecord): void {
    if (decode.mean > 0) this.#decode.restore(decode)
    if (prefill.mean > 0) this.#prefill.restore(prefill)
    this.slots.restore(slots)
  }
}
