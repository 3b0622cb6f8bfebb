import type { Parameters } from '../parameters.ts'
import type { Contention } from './contention.ts'
import { type MeanRecord, RunningMean } from './running-mean.ts'
import { RelativeSlope } from './slopes.ts'
import { SlotCount } from './slot-count.ts'

/** A decode of fewer tokens says nothing about speed, nor does a prefill of fewer (docs/routing.md#learning). */
const leastTokens = 4
const leastPrefill = 64
/** Of fewer samples none is an outlier. */
const fewSamples = 3
/** Loads shorter than these were none; a second of each is no reading (docs/routing.md#learning). */
const leastLoadS = 0.5
const loadOverheadS = 1
/** What the priors of the slopes weigh: as much as 20 samples that differ by a stream, or by a sixth of their time. */
const slowdownWeight = 20
const stallWeight = 0.5
/** Whoever writes does so while a prompt is read, however slowly. */
const mostStall = 0.95

/** How fast one node is, whatever it runs. */
export class NodePace {
  readonly #rules: Parameters
  /** Logarithms: a speed twice as high is as far away as one half as high. */
  readonly #logSpeed: RunningMean
  readonly #disk: RunningMean
  #expectedLogSpeed = 0
  #speed = 1

  constructor(rules: Parameters) {
    this.#rules = rules
    this.#logSpeed = new RunningMean(rules.learning.speedMemory)
    this.#disk = new RunningMean(rules.learning.diskMemory)
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

/** A prompt that was read, in tokens. */
interface PromptRead {
  /** In all, as far as that is known. */
  readonly tokens: number
  /** Expected to be cached, before `cachedShare`. */
  readonly expected: number
  /** Those that were not cached; null where the node does not tell them from the others. */
  readonly evaluated: number | null
  /** Other prompts that the runner was reading when it came to this one; null: nobody knows when it was read. */
  readonly readers: number | null
}

/** What is stored of a runner: speeds of a lone request. Who is beside one is learned anew, as it is another matter tomorrow. */
export interface PaceRecord {
  /** Seconds per token. */
  readonly decode: MeanRecord
  /** Tokens per second. */
  readonly prefill: MeanRecord
  readonly slots: number | null
}

/** How fast one node runs one variant. `bytes` is the model's size, as slow as it behaves. */
export class RunnerPace {
  readonly node: NodePace
  readonly slots: SlotCount
  readonly #rules: Parameters
  /**
   * Both slopes are fitted to what this runner's streams took, in seconds: as a ratio to what a lone one is believed to take
   * a crowd that stays would make the belief follow it, and the slope vanish.
   */
  readonly #slowdown: RelativeSlope
  readonly #stall: RelativeSlope
  readonly #decode: RunningMean
  /** Seconds per token: of a rate the mean would say too much, as it is a guess how much was cached. */
  readonly #prefill: RunningMean
  /** Of the time that streams wrote, the share in which prompts of others were read. */
  readonly #held: RunningMean
  /** How much longer prompts took than those that were there before them explain. */
  readonly #crowd: RunningMean
  /** Which share of the tokens that were expected to be cached was. */
  readonly #cached: RunningMean

  constructor(node: NodePace, rules: Parameters) {
    const { memory, slowdown, stall } = rules.learning
    this.node = node
    this.#slowdown = new RelativeSlope({ slope: slowdown, weight: slowdownWeight, least: 0, most: 1 })
    this.#stall = new RelativeSlope({ slope: -stall, weight: stallWeight, least: -mostStall, most: 0 })
    this.slots = new SlotCount(rules.slots)
    this.#rules = rules
    this.#decode = new RunningMean(memory)
    this.#prefill = new RunningMean(memory)
    this.#held = new RunningMean(memory)
    this.#crowd = new RunningMean(memory)
    this.#cached = new RunningMean(memory)
  }

  /** By how much one more stream slows the others. */
  get slowdown(): number {
    return this.#slowdown.value
  }

  /** By which share streams are slower while a prompt is read. */
  get stall(): number {
    return -this.#stall.value
  }

  /** Seconds per output token of a lone stream. */
  secondsPerToken(bytes: number): number {
    const { decodeBytesPerS, priorWeight } = this.#rules.learning
    const prior = bytes / (decodeBytesPerS * this.node.speed)
    return this.#rules.uses.speed ? this.#decode.shrunk(prior, priorWeight) : prior
  }

  /** The same, held up by prompts of others for as much of the time as of late. */
  usualSecondsPerToken(bytes: number): number {
    const held = this.#held.shrunk(0, this.#rules.learning.priorWeight)
    return this.secondsPerToken(bytes) / (1 - this.stall * held)
  }

  /** Prompt tokens per second of a lone request. */
  prefillRate(bytes: number): number {
    const { prefillBytesPerS, priorWeight } = this.#rules.learning
    const prior = bytes / (prefillBytesPerS * this.node.speed)
    return 1 / (this.#rules.uses.speed ? this.#prefill.shrunk(prior, priorWeight) : prior)
  }

  /** The same of one that finds so many prompts being read, while others come as of late. */
  prefillRateAmong(readers: number, bytes: number): number {
    const crowd = this.#crowd.shrunk(1, this.#rules.learning.priorWeight)
    return this.prefillRate(bytes) / (crowd * sharedBy(readers))
  }

  /** How many of the tokens that the prefix map promises are worth counting on. */
  get cachedShare(): number {
    return this.#cached.shrunk(1, this.#rules.learning.priorWeight)
  }

  /** @param tokens written in so many seconds. */
  decoded(tokens: number, seconds: number, contention: Contention, bytes: number): void {
    const { share, others, held } = contention
    const each = (seconds * share) / tokens
    if (tokens < leastTokens || !(each > 0)) return
    this.#held.add(held)
    const [amongOthers, whileHeld] = [1 + this.slowdown * others, 1 - this.stall * held]
    this.#slowdown.add(others, each * whileHeld)
    this.#stall.add(held, amongOthers / each)
    const solo = (each * (1 - this.stall * held)) / (1 + this.slowdown * others)
    this.#decode.add(solo)
    this.node.decoded(bytes / (this.#rules.learning.decodeBytesPerS * solo))
  }

  /** @param prompt read in so many seconds. */
  prefilled(prompt: PromptRead, seconds: number, { share, promptShare }: Contention, bytes: number): void {
    const { tokens, expected, evaluated, readers } = prompt
    const solo = seconds * (readers === null ? share : promptShare)
    if (!(solo > 0)) return
    if (readers !== null) this.#crowd.add(share / promptShare / sharedBy(readers))
    const rate = this.prefillRate(bytes)
    if (expected > 0) {
      const cached = Math.max(0, tokens - (evaluated ?? rate * solo))
      this.#cached.add(Math.min(1, cached / expected))
    }
    const read = evaluated ?? tokens - (expected > 0 ? expected * this.cachedShare : 0)
    if (read <= (expected > 0 ? leastPrefill : 0)) return
    // A prior may be far too fast. Far too slow is seldom: it looks so where a prompt was cached that was not expected to be.
    const most = this.#prefill.count < fewSamples ? Number.POSITIVE_INFINITY : 4 / rate
    this.#prefill.add(Math.min(most, Math.max(0.25 / rate, solo / read)))
  }

  record(): PaceRecord {
    const prefill = inverse(this.#prefill.record())
    return { decode: this.#decode.record(), prefill, slots: this.slots.record() }
  }

  restore({ decode, prefill, slots }: PaceRecord): void {
    if (decode.mean > 0) this.#decode.restore(decode)
    if (prefill.mean > 0) this.#prefill.restore(inverse(prefill))
    this.slots.restore(slots)
  }
}

/**
 * How many times as long a prompt takes that finds so many others being read, with equal parts of the runner for all: the
 * mean while as many come as go (Coffman, Muntz and Trotter 1970, M/M/1 with processor sharing), but for a factor that
 * depends on how busy the runner is.
 */
function sharedBy(readers: number): number {
  return 1 + readers / 2
}

function inverse({ mean, count }: MeanRecord): MeanRecord {
  return { mean: mean > 0 ? 1 / mean : 0, count }
}
