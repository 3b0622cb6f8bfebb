import type { Address } from '../../shared/net/address.ts'
import type { VersionCheck } from './version-check.ts'

/** Milliseconds of silence until a node is checked, and between two checks. */
const silentMs = 500
const everyMs = 1000
/** Milliseconds between two checks of a frozen node: its kernel keeps each connection. */
const whileFrozenMs = 5000
/**
 * Ticks of half a second with an unanswered check and no other sign of the node, until it counts as frozen: 3.5 s,
 * where a busy node takes 1.5 s. With the silence before and the ticks, a request leaves within 5 s of its node's
 * stop. Ticks, not time: a process that was itself stopped has one tick.
 */
const frozenTicks = 7
/** Ticks until paused responses are given up: with the silence before, 25 s as for a lost connection. */
const stalledTicks = 44
/** Ticks after which a node is in doubt: it may be frozen, and requests that left a frozen node go elsewhere if they can. */
const doubtfulTicks = 3
/** Ticks after which the time of a response says more about the trouble of the node than about the request. */
const troubledTicks = 5
/** The same for a connection that does not come up, in milliseconds. */
const troubledMs = 1000
/** Unanswered checks of a frozen node that are kept: one is answered when the node wakes up. */
const keptWhileFrozen = 2

interface ReachabilityOptions {
  /**
   * The address to check; null when nothing depends on it. @param isInDoubt the result matters even without a waiting
   * request.
   */
  readonly address: (now: number, isInDoubt: boolean) => Address | null
  readonly check: (address: Address) => VersionCheck
  /** When the node last sent anything, in monotonic milliseconds. */
  readonly heardAt: () => number
  /** Called at each connection that does not come up. */
  readonly lost: () => void
  readonly reachable: () => void
  /**
   * Called at each tick while connections come up and nothing is answered. @param isLong paused responses will not go
   * on.
   */
  readonly frozen: (isLong: boolean) => void
  readonly thawed: () => void
}

interface Unanswered {
  readonly check: VersionCheck
  readonly askedAt: number
}

/**
 * Whether a node is reachable: new connections come up, and its status route answers. It is checked while requests
 * wait there in silence, and after an unanswered check until it answers one. A dead connection alone shows nothing;
 * and a node that is back is used at once.
 */
export class Reachability {
  readonly #options: ReachabilityOptions
  #isLost = false
  #isFrozen = false
  #isConnecting = false
  #checkedAt = Number.NEGATIVE_INFINITY
  #repliedAt = Number.NEGATIVE_INFINITY
  #troubledAt = Number.NEGATIVE_INFINITY
  /** The oldest first. */
  #unanswered: Unanswered[] = []
  /** Ticks with an unanswered check and no other sign of the node. */
  #ticks = 0

  constructor(options: ReachabilityOptions) {
    this.#options = options
  }

  get isLost(): boolean {
    return this.#isLost
  }

  /** The node accepts connections and answers nothing. */
  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** Whether a check has had no answer for longer than a busy node takes. */
  get isDoubtful(): boolean {
    return this.#isFrozen || this.#ticks >= doubtfulTicks
  }

  /** When a check was last seen answered, in monotonic milliseconds. */
  get repliedAt(): number {
    return this.#repliedAt
  }

  /** When the node was last unreachable, or took seconds to answer a check, in monotonic milliseconds. */
  get troubledAt(): number {
    return this.#troubledAt
  }

  /** A new connection did not come up. */
  connectFailed(now: number): void {
    this.#isLost = true
    this.#troubledAt = now
    this.#answered()
    this.#options.lost()
  }

  /**
   * To be called every half second.
   *
   * @param isWanted the node is to be checked even if no request waits there.
   */
  tick(now: number, isWanted = false): void {
    this.#listen(now)
    const isLate = this.#isConnecting && now >= this.#checkedAt + troubledMs
    if (this.#isLost || isLate || this.#ticks >= troubledTicks) this.#troubledAt = now
    if (this.#ticks >= frozenTicks) {
      this.#isFrozen = true
      this.#options.frozen(this.#ticks >= stalledTicks)
    }
    const periodMs = this.#isFrozen ? whileFrozenMs : everyMs
    if (this.#isConnecting || now < this.#checkedAt + periodMs) return
    const address = this.#options.address(now, isWanted || this.#isLost || this.#unanswered.length > 0)
    if (address) void this.#check(address, now)
  }

  /** Ends all checks. */
  stop(): void {
    this.#drop(0)
  }

  /** Any byte of the node answers all earlier checks. */
  #listen(now: number): void {
    const [first] = this.#unanswered
    if (!first) return
    const hasReplied = this.#unanswered.some(({ check }) => check.isAnswered)
    if (hasReplied) this.#repliedAt = now
    if (hasReplied || this.#options.heardAt() > first.askedAt) this.#answered()
    else this.#ticks++
  }

  #answered(): void {
    this.#drop(0)
    this.#ticks = 0
    if (!this.#isFrozen) return
    this.#isFrozen = false
    this.#options.thawed()
  }

  async #check(address: Address, now: number): Promise<void> {
    this.#checkedAt = now
    this.#isConnecting = true
    const check = this.#options.check(address)
    const comesUp = await check.connected
    this.#isConnecting = false
    if (comesUp === false) this.connectFailed(now)
    if (comesUp !== true) return check.destroy()
    this.#unanswered.push({ check, askedAt: now })
    if (this.#isFrozen) this.#drop(keptWhileFrozen)
    if (!this.#isLost) return
    this.#isLost = false
    this.#options.reachable()
  }

  /** Ends all checks but the last few. */
  #drop(kept: number): void {
    for (const { check } of this.#unanswered.splice(0, Math.max(0, this.#unanswered.length - kept)))
      check.destroy()
  }
}

/** Whether a node that has been silent since then is to be checked. */
export function isQuiet(silentSince: number, now: number, forMs = silentMs): boolean {
  return now >= silentSince + forMs
}
