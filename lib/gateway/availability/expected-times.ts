/** What is timed: to the first token, which depends on the prompt, or to the end of an unstreamed response. */
export type Timed = 'first-token' | 'whole'

/** The longest time that a response should take to begin, and where that is known from. */
export interface Expected {
  /** Milliseconds; infinite when unknown. */
  readonly ms: number
  /** Which nodes have responded for the model before: this node, only others, or none. */
  readonly known: 'here' | 'elsewhere' | 'nowhere'
  /** Usual time in milliseconds; 0 when unknown. */
  readonly usualMs: number
}

/** The facts of a request that its time depends on. */
interface Sent {
  readonly node: string
  readonly model: string
  readonly timed: Timed
  /** Bytes of all bodies that the node reads now: it reads them together. */
  readonly bodyBytes: number
}

/** The least expected time in milliseconds, for a node with few known responses and for a well-known one. */
const leastMs = 10_000
const leastKnownMs = 3_000
/** Responses after which the times of a node are well known. */
const wellKnown = 10
/** A node may take this many times its usual time. */
const tolerance = 5
/** An unstreamed response may take this much longer than the longest so far, or half as long again. */
const wholeSlackMs = 3_000
/** Assumed for an unknown node, which is a slow one: 200 ms, and 100 tokens of 4 bytes read per second. */
const priorBaseMs = 200
const priorMsPerByte = 10 / 4
/** Unstreamed responses differ in length: the longest of the last one to two periods counts, in milliseconds. */
const periodMs = 3_600_000
/** The part of them that is ignored as delayed by something unknown, and how many of the longest are kept. */
const outliers = 0.01
const remembered = 8
/**
 * A model without any known response reads its first prompt, or hangs; a model that is not in memory is loaded again.
 * How long that takes is unknown until a load was seen. Only after this long is failing over worth it, since a load
 * ends with the request that waits for it.
 */
const unknownMs = 60_000

/**
 * Learns how long nodes take to respond, from responses only: a node that does not respond must not get more time for
 * that.
 */
export class ExpectedTimes {
  /** By node, then by model. */
  readonly #nodes = new Map<string, Map<string, Known>>()
  /** The longest load of each model on any node, in milliseconds. */
  readonly #loads = new Map<string, number>()

  /** A response of a loaded model began, or ended when unstreamed, after `tookMs`. */
  observe({ node, model, timed, bodyBytes }: Sent, tookMs: number, now: number): void {
    const models = this.#nodes.get(node) ?? new Map<string, Known>()
    this.#nodes.set(node, models)
    const known = models.get(model) ?? { firstToken: new FirstTokens(), whole: new WholeResponses() }
    models.set(model, known)
    if (timed === 'whole') known.whole.observe(bodyBytes, tookMs, now)
    else known.firstToken.observe(bodyBytes, tookMs)
  }

  /** A node loaded a model within `tookMs`. */
  loaded(model: string, tookMs: number): void {
    this.#loads.set(model, Math.max(tookMs, this.#loads.get(model) ?? 0))
  }

  /** @param isResident the node had the model in memory when it was last probed. */
  of(sent: Sent, isResident: boolean, now: number): Expected {
    const expected = sent.timed === 'whole' ? this.#whole(sent, now) : this.#firstToken(sent)
    return isResident ? expected : { ...expected, ms: this.#withLoad(sent.model, expected.ms) }
  }

  #withLoad(model: string, ms: number): number {
    const load = this.#loads.get(model)
    return load === undefined ? Math.max(unknownMs, ms) : ms + Math.max(leastKnownMs, tolerance * load)
  }

  /** The node has left the fleet. */
  forget(node: string): void {
    this.#nodes.delete(node)
  }

  #firstToken({ node, model, bodyBytes }: Sent): Expected {
    const own = this.#nodes.get(node)?.get(model)?.firstToken
    if (own && own.count > 0) {
      const least = own.count >= wellKnown ? leastKnownMs : leastMs
      return expected('here', least, own.factor * priorMs(bodyBytes))
    }
    // As slow as the slowest node: a deadline that is too short wastes the node's work.
    const others = this.#allOf(model).filter(({ firstToken }) => firstToken.count > 0)
    if (others.length > 0) {
      const factor = Math.max(1, ...others.map(({ firstToken }) => firstToken.factor))
      return expected('elsewhere', leastMs, factor * priorMs(bodyBytes))
    }
    return { ...expected('nowhere', unknownMs, priorMs(bodyBytes)), usualMs: 0 }
  }

  /** Any node may get the next long request: the longest response of all nodes counts. */
  #whole({ node, model, bodyBytes }: Sent, now: number): Expected {
    const all = this.#allOf(model)
    const longest = Math.max(0, ...all.map(({ whole }) => whole.expectedMs(bodyBytes, now)))
    if (longest === 0) return { ms: Number.POSITIVE_INFINITY, known: 'nowhere', usualMs: 0 }
    const count = all.reduce((sum, { whole }) => sum + whole.count, 0)
    const isOwn = (this.#nodes.get(node)?.get(model)?.whole.count ?? 0) > 0
    const ms = longest + Math.max(wholeSlackMs, longest / 2)
    return {
      ms: count >= wellKnown ? ms : Math.max(unknownMs, ms),
      known: isOwn ? 'here' : 'elsewhere',
      usualMs: longest,
    }
  }

  #allOf(model: string): Known[] {
    return [...this.#nodes.values()].flatMap((models) => models.get(model) ?? [])
  }
}

interface Known {
  readonly firstToken: FirstTokens
  readonly whole: WholeResponses
}

function expected(known: Expected['known'], least: number, usualMs: number): Expected {
  return { ms: Math.max(least, tolerance * usualMs), known, usualMs }
}

/**
 * Times to the first token of one model on one node, as a factor on the assumed time for a prompt of the same size.
 * It rises at once and falls slowly: a deadline that is too short wastes the node's work.
 */
class FirstTokens {
  factor = 0
  count = 0

  observe(bodyBytes: number, tookMs: number): void {
    const seen = tookMs / priorMs(bodyBytes)
    this.factor = this.count === 0 ? seen : Math.max(seen, 0.9 * this.factor + 0.1 * seen)
    this.count++
  }
}

/** Unstreamed responses of one model on one node, in this period and the one before. */
class WholeResponses {
  count = 0
  #now = new Period()
  #before = new Period()
  #since = 0

  observe(bodyBytes: number, tookMs: number, now: number): void {
    this.#turn(now)
    this.count++
    this.#now.observe(bodyBytes, tookMs)
  }

  /** The expected time for a prompt of that size. A larger prompt than any before may take longer in proportion. */
  expectedMs(bodyBytes: number, now: number): number {
    this.#turn(now)
    const largest = Math.max(this.#now.largest, this.#before.largest)
    const longest = Math.max(this.#now.longestMs, this.#before.longestMs)
    return longest * Math.max(1, priorMs(bodyBytes) / priorMs(largest))
  }

  #turn(now: number): void {
    if (now - this.#since < periodMs) return
    this.#before = now - this.#since < 2 * periodMs ? this.#now : new Period()
    this.#now = new Period()
    this.#since = now
  }
}

class Period {
  /** The largest body, in bytes. */
  largest = 0
  #count = 0
  /** Milliseconds of the longest responses, the longest first. */
  readonly #longest: number[] = []

  observe(bodyBytes: number, tookMs: number): void {
    this.largest = Math.max(this.largest, bodyBytes)
    this.#count++
    const at = this.#longest.findIndex((ms) => ms < tookMs)
    if (at < 0 && this.#longest.length >= remembered) return
    this.#longest.splice(at < 0 ? this.#longest.length : at, 0, tookMs)
    this.#longest.length = Math.min(this.#longest.length, remembered)
  }

  get longestMs(): number {
    return this.#longest[Math.min(Math.floor(this.#count * outliers), remembered - 1)] ?? 0
  }
}

function priorMs(bodyBytes: number): number {
  return priorBaseMs + bodyBytes * priorMsPerByte
}
