import type { Address } from '../../shared/net/address.ts'
import type { VersionCheck } from './version-check.ts'

/** How long a node says nothing until it is checked, and the time between two checks, in milliseconds. */
const silentMs = 500
const everyMs = 1000
/** The same between two checks of a node that is known to answer nothing: its kernel keeps each connection. */
const whileFrozenMs = 5000
/**
 * Looks, half a second apart, for which a check is unanswered and nothing else is heard of a node before it counts as
 * frozen: 5 s, where a busy node takes 1.5 s. Looks, not time: a process that was stopped itself has looked once.
 */
const frozenTicks = 10
/** Looks after which answers that stopped in the middle do not go on: with the silence before, 25 s as for a lost connection. */
const stalledTicks = 44
/** Looks after which an answer says more of the trouble of its node than of the request. */
const troubledTicks = 5
/** The same while a connection is being made, in milliseconds. */
const troubledMs = 1000
/** Checks of a frozen node that are left open: one over a connection that lives is answered when the node wakes up. */
const keptWhileFrozen = 2

interface ReachabilityOptions {
  /** Where to connect; null where nothing depends on that. @param isInDoubt the answer to this matters by itself. */
  readonly address: (now: number, isInDoubt: boolean) => Address | null
  readonly check: (address: Address) => VersionCheck
  /** When anything was heard of the node last, in monotonic milliseconds. */
  readonly heardAt: () => number
  /** No new connection comes up; told at each failure. */
  readonly lost: () => void
  readonly reachable: () => void
  /** New connections come up, and nothing is answered; told at each look. @param isLong answers under way do not go on. */
  readonly frozen: (isLong: boolean) => void
  readonly thawed: () => void
}

interface Unanswered {
  readonly check: VersionCheck
  readonly askedAt: number
}

/**
 * Whether a node can be reached: new connections come up, and its status route is answered over them. It is checked while
 * requests wait there in silence, and once it leaves a check unanswered until it answers one: a connection that is dead says
 * nothing by itself, and a node that is back is used at once.
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
  /** For which checks were unanswered and nothing else was heard. */
  #ticks = 0

  constructor(options: ReachabilityOptions) {
    this.#options = options
  }

  get isLost(): boolean {
    return this.#isLost
  }

  /** It takes connections and answers nothing. */
  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** When a check was seen to be answered last, in monotonic milliseconds. */
  get repliedAt(): number {
    return this.#repliedAt
  }

  /** When the node was last seen to be lost, or a check to take seconds, in monotonic milliseconds. */
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

  /** To be called every half second. */
  tick(now: number): void {
    this.#listen(now)
    const isLate = this.#isConnecting && now >= this.#checkedAt + troubledMs
    if (this.#isLost || isLate || this.#ticks >= troubledTicks) this.#troubledAt = now
    if (this.#ticks >= frozenTicks) {
      this.#isFrozen = true
      this.#options.frozen(this.#ticks >= stalledTicks)
    }
    const periodMs = this.#isFrozen ? whileFrozenMs : everyMs
    if (this.#isConnecting || now < this.#checkedAt + periodMs) return
    const address = this.#options.address(now, this.#isLost || this.#unanswered.length > 0)
    if (address) void this.#check(address, now)
  }

  /** Ends all checks. */
  stop(): void {
    this.#drop(0)
  }

  /** Whatever is heard answers all that was asked before. */
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

  /** Gives up the checks but for the last few. */
  #drop(kept: number): void {
    for (const { check } of this.#unanswered.splice(0, Math.max(0, this.#unanswered.length - kept)))
      check.destroy()
  }
}

/** Whether a node that has been silent since then is worth a check. */
export function isQuiet(silentSince: number, now: number, forMs = silentMs): boolean {
  return now >= silentSince + forMs
}
