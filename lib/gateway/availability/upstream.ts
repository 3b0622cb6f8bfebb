import type { Agent } from 'node:http'
import type { NodeView } from '../../fleet/node.ts'
import { nodePathOf } from '../../fleet/node-url.ts'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { Address } from '../../shared/net/address.ts'
import type { Via } from '../../shared/net/via.ts'
import { readInTurn } from '../../shared/turns.ts'
import { isForeign, isUnauthorized } from '../response/not-ollama.ts'
import type { Refused } from '../response/outcome.ts'
import type { BreakerState, CircuitBreaker } from './circuit-breaker.ts'
import { freshAgentFor, type KeepaliveAgent } from './keepalive-agent.ts'
import type { UpstreamAvailability } from './node-availability.ts'
import { isQuiet, Reachability } from './reachability.ts'
import { type Pulse, Silence } from './silence.ts'
import type { VersionCheck } from './version-check.ts'

/**
 * Why a request that waits for the first sign of its node may leave it. `slow`: it takes longer than it should. `lost`: no
 * new connection to the node comes up, so this one may be dead. `failing`: its breaker opened. `silent`: it answers no
 * request for this model. `frozen`: it answers nothing at all, not even its status route.
 */
export type LeaveReason = 'slow' | 'lost' | 'failing' | 'silent' | 'frozen'

/** Where a node listens, in the parts that http-proxy asks for: those of a URL are worked out at each look. */
export type UpstreamTarget = Readonly<Pick<URL, 'protocol' | 'host' | 'hostname' | 'port' | 'href'>>

/** How long an answer may pause, in milliseconds, before its node is checked. */
const pauseMs = 3000

/** An attempt that waits for the first sign of its node. */
export interface WaitingAttempt {
  /** Monotonic milliseconds. */
  readonly waitingSince: number
  /** The other end of its connection; null before there is one. */
  readonly address: Address | null
  readonly bodyBytes: number
  /** Told of its answer, as its order says. */
  readonly pulse: Pulse | null
  /** Its node is not to be expected to answer: what can be served elsewhere need not wait for it. */
  leave(reason: Exclude<LeaveReason, 'slow'>): void
  /** New connections to its node come up again. */
  reachable(): void
  /** Its node answers again. */
  thawed(): void
}

/** An attempt whose answer has begun. */
export interface StreamingAttempt {
  /** Its node has answered nothing for so long that its answer does not go on. */
  stall(): void
}

interface UpstreamOptions {
  readonly node: NodeView
  readonly agent: KeepaliveAgent
  readonly via: Via
  readonly availability: UpstreamAvailability
  readonly check: (address: Address) => VersionCheck
  /** The node takes connections and answers nothing; and when it answers again. */
  readonly onFrozen: () => void
  readonly onThawed: () => void
  /** Tells the operator what is wrong with the way to the node. */
  readonly warn: (message: string, status: number) => void
}

/** The way to one node: its kept-alive sockets, its breaker, what waits there, and what is known of its silence. */
export class Upstream {
  readonly target: UpstreamTarget
  /** Under which a proxy has the node's API; "" without one. */
  readonly path: string
  readonly agent: KeepaliveAgent
  /** See `freshAgentFor`. */
  readonly freshAgent: Agent
  /** The entry of this cluster in the requests' `Via`. */
  readonly via: Via
  readonly availability: UpstreamAvailability
  /** Attempts to which the node has not begun to answer. */
  readonly waiting = new ChurnMap<WaitingAttempt, WaitingAttempt>()
  /** Attempts to which it has. */
  readonly streaming = new ChurnMap<StreamingAttempt, StreamingAttempt>()
  /** When anything of any answer came last, in monotonic milliseconds; written for each piece, so it is a bare field. */
  heardAt = Number.NEGATIVE_INFINITY
  readonly #silences = new Map<string, Silence>()
  readonly #reachability: Reachability
  readonly #warn: UpstreamOptions['warn']
  readonly #onFrozen: () => void
  readonly #onThawed: () => void
  #breakerState: BreakerState = 'closed'
  #isStopped = false

  constructor({ node, agent, via, availability, check, warn, onFrozen, onThawed }: UpstreamOptions) {
    this.#warn = warn
    this.#onFrozen = onFrozen
    this.#onThawed = onThawed
    this.target = targetOf(node)
    this.path = nodePathOf(node.spec.url)
    this.agent = agent
    this.freshAgent = freshAgentFor(node.spec)
    this.via = via
    this.availability = availability
    this.#reachability = new Reachability({
      address: (now, isInDoubt) => this.#addressToCheck(now, isInDoubt),
      check,
      heardAt: () => this.heardAt,
      lost: () => this.#lost(),
      reachable: () => this.#reachable(),
      frozen: (isLong) => this.#frozen(isLong),
      thawed: () => this.#thawed(),
    })
  }

  get breaker(): CircuitBreaker {
    return this.availability.breaker
  }

  /**
   * The node said 503 busy or 429: no new requests for a while. To be told before the request's trial is settled.
   *
   * @param retryAfterMs what its Retry-After asked for.
   */
  busy(retryAfterMs?: number): void {
    this.availability.busy(retryAfterMs)
  }

  /** A model is not on the node, or its runner dies there: it is not asked for here for 30 s. */
  blockModel(model: string): void {
    this.availability.blockModel(model)
  }

  /** The node, or what is in front of it, refused a request. */
  recordRefusal(refused: Refused): void {
    if (isUnauthorized(refused)) this.#warn('node refuses llamero: check its "headers"', refused.status)
    else if (isForeign(refused))
      this.#warn('what answers for the node is not Ollama: check its URL and the proxy there', refused.status)
  }

  /** A new connection to the node did not come up. */
  connectFailed(now: number): void {
    this.#reachability.connectFailed(now)
  }

  /** A new connection to the node did not come up, and none has since. */
  get isLost(): boolean {
    return this.#reachability.isLost
  }

  /** The node takes connections and answers nothing, not even its status route. */
  get isFrozen(): boolean {
    return this.#reachability.isFrozen
  }

  /** Whether the node answered its status route since then. */
  hasRepliedSince(at: number): boolean {
    return this.#reachability.repliedAt > at
  }

  /** Whether the node was lost, or took seconds to answer its status route, since then. */
  wasTroubledSince(at: number): boolean {
    return this.#reachability.troubledAt > at
  }

  /** What is known of the node's answers for one model. */
  silence(model: string): Silence {
    let silence = this.#silences.get(model)
    if (!silence) {
      silence = new Silence()
      this.#silences.set(model, silence)
    }
    return silence
  }

  /** Whether an answer came since then, for another model than the one of `besides`. */
  wasHeardSince(at: number, besides: Silence | null = null): boolean {
    for (const silence of this.#silences.values())
      if (silence !== besides && silence.heardAt > at) return true
    return false
  }

  /** Bytes of the bodies that the node reads now, or should. */
  get waitingBytes(): number {
    let sum = 0
    for (const { bodyBytes } of this.waiting.values()) sum += bodyBytes
    return sum
  }

  /** The node answers nothing for a model: what waits there for it leaves, and nothing follows for a while. */
  ejectModel(model: string): void {
    this.blockModel(model)
    const silence = this.silence(model)
    for (const each of this.waiting.values()) if (each.pulse === silence) each.leave('silent')
  }

  /** To be told of each state of the breaker. */
  breakerMoved(state: BreakerState): void {
    const before = this.#breakerState
    this.#breakerState = state
    if (state !== 'open' || before !== 'closed') return
    const { cause } = this.breaker
    this.leaveAll(cause === 'refused' ? 'lost' : cause === 'silent' ? 'silent' : 'failing')
  }

  leaveAll(reason: Exclude<LeaveReason, 'slow'>): void {
    for (const each of this.waiting.values()) each.leave(reason)
  }

  /**
   * One answer of the node is so costly that several in one turn of the event loop would hold up everybody else: from now on
   * each connection is read in a turn of its own.
   */
  takeTurns(): void {
    for (const agent of [this.agent, this.freshAgent])
      for (const socket of Object.values(agent.sockets).flatMap((sockets) => sockets ?? []))
        if (!socket.isPaused()) void readInTurn(socket)
  }

  /** To be called every now and then. */
  tick(now: number): void {
    this.#reachability.tick(now)
  }

  /** Idle sockets go at once; those in use end with their streams. */
  stop(): void {
    this.#isStopped = true
    this.availability.stop()
    this.#reachability.stop()
    this.agent.drain()
  }

  destroy(): void {
    this.#isStopped = true
    this.#reachability.stop()
    this.agent.destroy()
    this.availability.stop()
  }

  /** Where the first request that waits in silence is connected to, without a look at name servers. */
  #addressToCheck(now: number, isInDoubt: boolean): Address | null {
    const own = { host: this.target.hostname.replace(/^\[|\]$/g, ''), port: portOf(this.target) }
    const [first] = this.waiting.values()
    if (isInDoubt) return first?.address ?? own
    if (first && isQuiet(Math.max(first.waitingSince, this.heardAt), now)) return first.address
    return this.streaming.size > 0 && isQuiet(this.heardAt, now, pauseMs) ? own : null
  }

  #lost(): void {
    if (this.#isStopped) return
    this.breaker.connectFailed()
    this.leaveAll('lost')
  }

  #reachable(): void {
    if (this.#isStopped) return
    this.breaker.connectSucceeded()
    for (const each of this.waiting.values()) each.reachable()
  }

  #frozen(isLong: boolean): void {
    if (this.#isStopped) return
    if (!this.availability.isFrozen) this.#onFrozen()
    this.availability.freeze(true)
    this.leaveAll('frozen')
    if (isLong) for (const each of this.streaming.values()) each.stall()
  }

  #thawed(): void {
    if (this.#isStopped) return
    this.availability.freeze(false)
    this.#onThawed()
    for (const each of this.waiting.values()) each.thawed()
  }
}

function targetOf({ spec }: NodeView): UpstreamTarget {
  const { protocol, host, hostname, port, href } = new URL(spec.url)
  return { protocol, host, hostname, port, href }
}

function portOf({ protocol, port }: UpstreamTarget): number {
  return Number(port || (protocol === 'https:' ? 443 : 80))
}
