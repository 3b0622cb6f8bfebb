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
 * Why a request may fail over before its response begins. `slow`: it takes longer than expected. `lost`: no new
 * connection to the node comes up, so this one may be dead. `failing`: the breaker opened. `silent`: the model
 * responds to no request. `frozen`: the node answers nothing, not even its status route.
 */
export type LeaveReason = 'slow' | 'lost' | 'failing' | 'silent' | 'frozen'

/** The address of a node, in the parts that http-proxy reads; a URL would compute them at each read. */
export type UpstreamTarget = Readonly<Pick<URL, 'protocol' | 'host' | 'hostname' | 'port' | 'href'>>

/** How long a response may pause, in milliseconds, before the node is checked. */
const pauseMs = 3000

/** An attempt that waits for the head of its response. */
export interface WaitingAttempt {
  /** Monotonic milliseconds. */
  readonly waitingSince: number
  /** The remote address of its connection; null before there is one. */
  readonly address: Address | null
  readonly bodyBytes: number
  /** See UpstreamRequest. */
  readonly pulse: Pulse | null
  /** The node is not expected to respond: a request that another node can serve fails over. */
  leave(reason: Exclude<LeaveReason, 'slow'>): void
  /** New connections to the node come up again. */
  reachable(): void
  /** The node answers again. */
  thawed(): void
}

/** An attempt after its response has begun. */
export interface StreamingAttempt {
  /** The node has answered nothing for so long that the response will not go on. */
  stall(): void
}

interface UpstreamOptions {
  readonly node: NodeView
  readonly agent: KeepaliveAgent
  readonly via: Via
  readonly availability: UpstreamAvailability
  readonly check: (address: Address) => VersionCheck
  /** Called when the node accepts connections and answers nothing, and when it answers again. */
  readonly onFrozen: () => void
  readonly onThawed: () => void
  /** Logs what is wrong with the way to the node. */
  readonly warn: (message: string, status: number) => void
}

/**
 * One node as this instance reaches it: kept-alive sockets, availability, attempts in progress, and checks of a
 * silent node.
 */
export class Upstream {
  readonly target: UpstreamTarget
  /** Path under which a proxy serves the node's API; "" without one. */
  readonly path: string
  readonly agent: KeepaliveAgent
  /** See `freshAgentFor`. */
  readonly freshAgent: Agent
  /** The entry of this cluster in the Via header of requests. */
  readonly via: Via
  readonly availability: UpstreamAvailability
  /** Attempts before the head of their response. */
  readonly waiting = new ChurnMap<WaitingAttempt, WaitingAttempt>()
  /** Attempts within their response. */
  readonly streaming = new ChurnMap<StreamingAttempt, StreamingAttempt>()
  /**
   * When a byte of any response last came, in monotonic milliseconds; written for each piece, so it is a bare field.
   */
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
   * The node responded 503 busy or 429: it gets no new requests for a while. To be called before the permit is
   * settled.
   *
   * @param retryAfterMs its Retry-After.
   */
  busy(retryAfterMs?: number): void {
    this.availability.busy(retryAfterMs)
  }

  /** Blocks a model for 30 s: it is not on the node, or its runner dies there. */
  blockModel(model: string): void {
    this.availability.blockModel(model)
  }

  /** Warns of a refusal that the configuration of the node or of a proxy causes. */
  recordRefusal(refused: Refused): void {
    if (isUnauthorized(refused)) this.#warn('node refuses llamero: check its "headers"', refused.status)
    else if (isForeign(refused))
      this.#warn('what answers for the node is not Ollama: check its URL and the proxy there', refused.status)
  }

  /** A new connection to the node did not come up. */
  connectFailed(now: number): void {
    this.#reachability.connectFailed(now)
  }

  /** Whether no connection to the node has come up since the last failure. */
  get isLost(): boolean {
    return this.#reachability.isLost
  }

  /** Whether the node accepts connections and answers nothing, not even its status route. */
  get isFrozen(): boolean {
    return this.#reachability.isFrozen
  }

  /** Whether the node may be frozen: it has not answered a check for longer than a busy node takes. */
  get isDoubtful(): boolean {
    return this.#reachability.isDoubtful
  }

  /** Whether the node answered its status route since then. */
  hasRepliedSince(at: number): boolean {
    return this.#reachability.repliedAt > at
  }

  /** Whether the node was lost, or took seconds to answer its status route, since then. */
  wasTroubledSince(at: number): boolean {
    return this.#reachability.troubledAt > at
  }

  /** The silence detector of one model. */
  silence(model: string): Silence {
    let silence = this.#silences.get(model)
    if (!silence) {
      silence = new Silence()
      this.#silences.set(model, silence)
    }
    return silence
  }

  /** Whether a response made progress since then, for a model other than that of `besides`. */
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

  /** Ejects a silent model: waiting requests fail over, and it is blocked for a while. */
  ejectModel(model: string): void {
    this.blockModel(model)
    const silence = this.silence(model)
    for (const each of this.waiting.values()) if (each.pulse === silence) each.leave('silent')
  }

  /** To be called with each state of the breaker. */
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
   * Reads each connection of the node in its own turn of the event loop. For a node with so many small pieces that
   * several responses in one turn would hold up other requests.
   */
  takeTurns(): void {
    for (const agent of [this.agent, this.freshAgent])
      for (const socket of Object.values(agent.sockets).flatMap((sockets) => sockets ?? []))
        if (!socket.isPaused()) void readInTurn(socket)
  }

  /**
   * To be called periodically.
   *
   * @param isWanted the node is to be checked unless it was just heard: another node seems to freeze.
   */
  tick(now: number, isWanted: boolean): void {
    this.#reachability.tick(now, isWanted && isQuiet(this.heardAt, now))
  }

  /** Closes idle sockets; those in use end with their streams. */
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

  /** The address that the first silent request is connected to, without asking a name server. */
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
