import type { Parameters } from '../parameters.ts'
import type { Contention } from './contention.ts'
import { type MeanRecord, RunningMean } from './running-mean.ts'
import { RelativeSlope } from './slopes.ts'
import { SlotCount } from './slot-count.ts'

/** Fewer decoded or prefilled tokens say nothing about speed (docs/routing.md#learning). */
const leastTokens = 4
const leastPrefill = 64
/** With fewer samples no sample is an outlier. */
const fewSamples = 3
/** A shorter load was no load; one second of each load is not spent reading the file (docs/routing.md#learning). */
const leastLoadS = 0.5
const loadOverheadS = 1
/** Weights of the slopes' priors: as much as 20 samples that differ by one stream, or by a sixth of their time. */
const slowdownWeight = 20
const stallWeight = 0.5
/** A stream keeps some speed while a prompt is read. */
const mostStall = 0.95

/** How fast one node is, for all models. */
export class NodePace {
  readonly #parameters: Parameters
  /** Logarithms: twice the speed is as far away as half the speed. */
  readonly #logSpeed: RunningMean
  readonly #disk: RunningMean
  #expectedLogSpeed = 0
  #speed = 1

  constructor(parameters: Parameters) {
    this.#parameters = parameters
    this.#logSpeed = new RunningMean(parameters.learning.speedMemory)
    this.#disk = new RunningMean(parameters.learning.diskMemory)
  }

  /** Relative to a node of speed 1. */
  get speed(): number {
    return this.#speed
  }

  /** Sets the speed that is assumed until one is learned. */
  expect(speed: number): void {
    this.#expectedLogSpeed = Math.log(speed)
    this.#measure()
  }

  /** Seconds to load a model of so many bytes. */
  loadS(bytes: number): number {
    return loadOverheadS + bytes / this.#disk.or(this.#parameters.learning.diskBytesPerS)
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

  /** Computes the speed: it is read far more often than it changes. */
  #measure(): void {
    if (this.#parameters.uses.speed) this.#speed = Math.exp(this.#logSpeed.or(this.#expectedLogSpeed))
  }
}

/** A prompt that a runner has read, in tokens. */
interface PromptRead {
  /** The whole prompt, as far as known. */
  readonly tokens: number
  /** Tokens that were expected to be cached, before `cachedShare`. */
  readonly expected: number
  /** Tokens that were not cached; null: the node does not report them. */
  readonly evaluated: number | null
  /** Other prompts that the runner was reading when this one began; null: when it was read is unknown. */
  readonly readers: number | null
}

/** What is stored of a runner: the speeds of a lone request. Contention is not stored, as it changes from day to day. */
export interface PaceRecord {
  /** Seconds per token. */
  readonly decode: MeanRecord
  /** Tokens per second. */
  readonly prefill: MeanRecord
  readonly slots: number | null
}

/** How fast one node runs one variant. `bytes` is the size that matches its speed (`slowBytes`). */
export class RunnerPace {
  readonly node: NodePace
  readonly slots: SlotCount
  readonly #parameters: Parameters
  /**
   * Both slopes are fitted to the measured seconds of this runner's streams. Fitted to the ratio between them and the learned
   * solo speed, a constant crowd would pull the solo speed along, and the slope would vanish.
   */
  readonly #slowdown: RelativeSlope
  readonly #stall: RelativeSlope
  readonly #decode: RunningMean
  /** Seconds per token. The mean of a rate would be too high, because the cached part is an estimate. */
  readonly #prefill: RunningMean
  /** Share of writing time in which prompts of other requests were read. */
  readonly #held: RunningMean
  /** How much longer prompts took than the prompts before them explain. */
  readonly #crowd: RunningMean
  /** Share of the expected cached tokens that were cached. */
  readonly #cached: RunningMean

  constructor(node: NodePace, parameters: Parameters) {
    const { memory, slowdown, stall } = parameters.learning
    this.node = node
    this.#slowdown = new RelativeSlope({ slope: slowdown, weight: slowdownWeight, least: 0, most: 1 })
    this.#stall = new RelativeSlope({ slope: -stall, weight: stallWeight, least: -mostStall, most: 0 })
    this.slots = new SlotCount(parameters.slots)
    this.#parameters = parameters
    this.#decode = new RunningMean(memory)
    this.#prefill = new RunningMean(memory)
    this.#held = new RunningMean(memory)
    this.#crowd = new RunningMean(memory)
    this.#cached = new RunningMean(memory)
  }

  /** How much one more stream slows the others. */
  get slowdown(): number {
    return this.#slowdown.value
  }

  /** Share of their speed that streams lose while a prompt is read. */
  get stall(): number {
    return -this.#stall.value
  }

  /** Seconds per output token of a lone stream. */
  secondsPerToken(bytes: number): number {
    const { decodeBytesPerS, priorWeight } = this.#parameters.learning
    const prior = bytes / (decodeBytesPerS * this.node.speed)
    return this.#parameters.uses.speed ? this.#decode.shrunk(prior, priorWeight) : prior
  }

  /** Seconds per output token of a lone stream that prompts of others stall as often as of late. */
  usualSecondsPerToken(bytes: number): number {
    const held = this.#held.shrunk(0, this.#parameters.learning.priorWeight)
    return this.secondsPerToken(bytes) / (1 - this.stall * held)
  }

  /** Prompt tokens per second of a lone request. */
  prefillRate(bytes: number): number {
    const { prefillBytesPerS, priorWeight } = this.#parameters.learning
    const prior = bytes / (prefillBytesPerS * this.node.speed)
    return 1 / (this.#parameters.uses.speed ? this.#prefill.shrunk(prior, priorWeight) : prior)
  }

  /** Prompt tokens per second of a request that finds so many prompts being read, while others arrive as of late. */
  prefillRateAmong(readers: number, bytes: number): number {
    const crowd = this.#crowd.shrunk(1, this.#parameters.learning.priorWeight)
    return this.prefillRate(bytes) / (crowd * sharedBy(readers))
  }

  /** Share of the prefix index's expected tokens that is really cached. */
  get cachedShare(): number {
    return this.#cached.shrunk(1, this.#parameters.learning.priorWeight)
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
    this.node.decoded(bytes / (this.#parameters.learning.decodeBytesPerS * solo))
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
    // A prior may be far too fast, but seldom far too slow: an unexpected cache hit only makes it look slow.
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
 * How many times longer a prompt takes that finds so many others being read, if all share the runner equally: the mean in a
 * steady state (Coffman, Muntz and Trotter 1970, M/M/1 with processor sharing), up to a factor for the runner's load.
 */
function sharedBy(readers: number): number {
  return 1 + readers / 2
}

function inverse({ mean, count }: MeanRecord): MeanRecord {
  return { mean: mean > 0 ? 1 / mean : 0, count }
}
