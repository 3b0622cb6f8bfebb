import type { Contacts } from '../../fleet/contacts.ts'
import type { NodeView } from '../../fleet/node.ts'
import { nodePathOf } from '../../fleet/node-url.ts'
import type { CurrentSnapshot } from '../../fleet/snapshot.ts'
import {
  alwaysAvailable,
  type FleetAvailability,
  type NodeAvailability,
} from '../../scheduler/fleet/availability.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Address } from '../../shared/net/address.ts'
import type { Via } from '../../shared/net/via.ts'
import type { Random } from '../../shared/random.ts'
import { requestHeaders } from '../http/request-headers.ts'
import type { BreakerState } from './circuit-breaker.ts'
import { ExpectedTimes } from './expected-times.ts'
import { agentFor, freshAgentFor } from './keepalive-agent.ts'
import { UpstreamAvailability } from './node-availability.ts'
import { SilentModels } from './silent-models.ts'
import { Upstream } from './upstream.ts'
import { VersionCheck } from './version-check.ts'

/** Idle sockets are closed after 15 to 30 s, before anything between llamero and the node forgets them. */
const sweepMs = 15_000

/** Milliseconds between two checks of nodes with silent requests. */
const tickMs = 500

/** Milliseconds that the connection of a check may take. */
const longestConnectMs = 2000

/** Nodes that are checked because another one seems to freeze. */
const mostChecked = 32

/** Milliseconds between two equal warnings about a node. */
const warnMs = 60_000

interface Held {
  readonly upstream: Upstream
  /** What it was made from: with another address, other TLS or breaker settings it is replaced. */
  readonly identity: string
}

interface UpstreamPoolOptions {
  readonly snapshot: CurrentSnapshot
  /** Records the results of requests at each node. */
  readonly contacts?: Pick<Contacts, 'answered' | 'failed'>
  readonly via: Via
  readonly metrics: Metrics
  readonly log: Pick<Log, 'info' | 'warn'>
  readonly clock: Clock
  readonly random: Random
  /** Called when more or fewer requests may go to some node than before. */
  readonly changed: () => void
}

/**
 * The upstreams of all nodes. Each is created on first use, and stopped when its node leaves the fleet or its address
 * changes.
 */
export class UpstreamPool implements FleetAvailability {
  readonly #options: UpstreamPoolOptions
  readonly #held = new Map<string, Held>()
  /** How long nodes take to respond. */
  readonly expected = new ExpectedTimes()
  readonly #silentModels: SilentModels
  /** Nodes with some restriction: few, while each decision of the scheduler reads every node. */
  readonly #restricted = new Map<string, UpstreamAvailability>()
  #cancelSweep: (() => void) | null = null
  #cancelTick: (() => void) | null = null
  /** Nodes that were down in the last snapshot. */
  #down: ReadonlySet<string> = new Set()

  constructor(options: UpstreamPoolOptions) {
    this.#options = options
    this.#silentModels = new SilentModels({
      ...options,
      upstreams: () => this.#upstreams(),
      hasInMemory: (node, model) => this.hasInMemory(node, model),
    })
    options.snapshot.onSwap(() => {
      this.#prune()
      this.#watchHealth()
    })
  }

  /** The upstream of a node. A request with an older snapshot gets the newer upstream. */
  of(node: NodeView): Upstream {
    return this.#keep(node).upstream
  }

  /** See FleetAvailability: a node that was never used has no restriction. */
  availabilityOf(node: string, model: string): NodeAvailability {
    return this.#restricted.get(node)?.forModel(model) ?? alwaysAvailable
  }

  breakerState(node: string): BreakerState {
    return this.#held.get(node)?.upstream.breaker.state ?? 'closed'
  }

  /** Whether a node accepts connections of this instance and answers nothing. */
  isFrozen(node: string): boolean {
    return this.#held.get(node)?.upstream.isFrozen ?? false
  }

  /** Whether no connection of this instance to a node comes up, or none is answered; checked until one is. */
  isUnresponsive(node: string): boolean {
    const upstream = this.#held.get(node)?.upstream
    return upstream !== undefined && (upstream.isLost || upstream.isFrozen)
  }

  /** The same, or a check of the node has had no answer for a while. */
  isInDoubt(node: string): boolean {
    return this.isUnresponsive(node) || this.#held.get(node)?.upstream.isDoubtful === true
  }

  /** Nodes that may be frozen. */
  get doubtful(): string[] {
    return [...this.#held].flatMap(([name, { upstream }]) => (upstream.isDoubtful ? [name] : []))
  }

  /** Closes every socket to every node. */
  destroy(): void {
    this.#stopTimers()
    for (const { upstream } of this.#held.values()) upstream.destroy()
    this.#held.clear()
    this.#restricted.clear()
  }

  /** Whether a node had a model in memory when it was last probed. */
  hasInMemory(node: string, model: string): boolean {
    return this.#options.snapshot.get().nodes.get(node)?.resident.has(model) ?? false
  }

  /** A request for a model of a node is overdue. */
  overdue(node: string, model: string, sentAt: number): void {
    const held = this.#held.get(node)
    if (held) this.#silentModels.overdue(node, held.upstream, model, sentAt)
  }

  /** A response for a model of a node began well. */
  answered(node: string, model: string): void {
    this.#silentModels.answered(node, model)
  }

  #keep(node: NodeView): Held {
    const held = this.#held.get(node.name)
    if (held) return held
    const { name } = node
    const { via, log } = this.#options
    const upstream = new Upstream({
      node,
      agent: agentFor(node.spec),
      via,
      availability: this.#newAvailability(name),
      check: this.#checker(node),
      warn: this.#warner(name),
      onFrozen: () =>
        log.warn(
          'node is frozen: it accepts connections and answers nothing; check whether its machine or Ollama there hangs',
          { node: name },
        ),
      onThawed: () => log.info('node is no longer frozen: it answers again', { node: name }),
    })
    const created: Held = { identity: this.#identityOf(node), upstream }
    this.#held.set(name, created)
    this.#cancelSweep ??= this.#sweepLater()
    this.#cancelTick ??= this.#tickLater()
    return created
  }

  #checker({ spec }: NodeView): (address: Address) => VersionCheck {
    const { snapshot, clock, via } = this.#options
    const { protocol, host } = new URL(spec.url)
    const way = {
      isTls: protocol === 'https:',
      agent: freshAgentFor(spec),
      path: `${nodePathOf(spec.url)}/api/version`,
      headers: requestHeaders({
        caller: {},
        node: spec.headers,
        host,
        bodyBytes: null,
        requestId: 'llamero-check',
        via,
      }),
      clock,
    }
    return (address) => {
      const connectMs = Math.min(snapshot.get().config.timeouts.connect, longestConnectMs)
      return new VersionCheck(address, { ...way, connectMs })
    }
  }

  /** Logs each warning about a node once a minute at most. */
  #warner(node: string): (message: string, status: number) => void {
    const { log, clock } = this.#options
    const said = new Map<string, number>()
    return (message, status) => {
      const now = clock.now()
      if (now < (said.get(message) ?? Number.NEGATIVE_INFINITY) + warnMs) return
      said.set(message, now)
      log.warn(message, { node, status })
    }
  }

  #tickLater(): () => void {
    const { clock } = this.#options
    return clock.after(tickMs, () => {
      this.#tick(clock.now())
      this.#cancelTick = this.#tickLater()
    })
  }

  /**
   * Nodes often freeze together, as when their network does. While one seems to, others are checked too: a request that
   * leaves it must not wait at a second and a third node for the same reason.
   */
  #tick(now: number): void {
    const isOneFreezing = [...this.#upstreams()].some(({ isDoubtful, isFrozen }) => isDoubtful && !isFrozen)
    if (isOneFreezing) this.#holdMore()
    let left = isOneFreezing ? mostChecked : 0
    for (const upstream of this.#upstreams()) upstream.tick(now, left-- > 0)
  }

  /** Nodes that got no request yet are checked as well. */
  #holdMore(): void {
    for (const node of this.#options.snapshot.get().nodes.values()) {
      if (this.#held.size >= mostChecked) return
      if (node.available) this.#keep(node)
    }
  }

  #sweepLater(): () => void {
    return this.#options.clock.after(sweepMs, () => {
      for (const { upstream } of this.#held.values()) upstream.agent.closeIdle()
      this.#cancelSweep = this.#sweepLater()
    })
  }

  #stopTimers(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = null
    this.#cancelTick?.()
    this.#cancelTick = null
  }

  #newAvailability(name: string): UpstreamAvailability {
    const { snapshot, contacts, metrics, log, clock, random, changed } = this.#options
    let former: BreakerState = 'closed'
    const availability: UpstreamAvailability = new UpstreamAvailability({
      settings: snapshot.get().config.breaker,
      clock,
      random,
      slots: () => snapshot.get().nodes.get(name)?.slots ?? 1,
      changed: () => {
        if (availability.isOpen) this.#restricted.delete(name)
        else this.#restricted.set(name, availability)
        changed()
      },
      onBreakerState: (state) => {
        this.#held.get(name)?.upstream.breakerMoved(state)
        metrics.breakerTransitions.inc({ node: name, to: state })
        this.#show(name, state)
        const { cause } = availability.breaker
        if (former === 'closed')
          log.info('circuit breaker open: this instance keeps requests from the node', { node: name, cause })
        if (state === 'closed') log.info('circuit breaker closed', { node: name })
        former = state
      },
      onResult: (isGood) => (isGood ? contacts?.answered(name) : contacts?.failed(name)),
      onPanic: () => metrics.panicPicks.inc({ node: name }),
    })
    return availability
  }

  /**
   * Warms up a node that is up again in the snapshot. A node that was never seen down is not warmed up, so no node is
   * at the start of this instance.
   */
  #watchHealth(): void {
    const down = new Set<string>()
    for (const node of this.#options.snapshot.get().nodes.values()) {
      if (node.health === 'down') {
        down.add(node.name)
        if (!this.#down.has(node.name) && isUnreachable(node)) this.#leave(node.name)
      } else if (this.#down.has(node.name) && node.available) this.#keep(node).upstream.availability.warmUp()
    }
    this.#down = down
  }

  /** A host without power sends no reset: without this, its requests would wait until their time is up. */
  #leave(node: string): void {
    this.#held.get(node)?.upstream.leaveAll('lost')
  }

  *#upstreams(): Iterable<Upstream> {
    for (const { upstream } of this.#held.values()) yield upstream
  }

  #prune(): void {
    const { nodes } = this.#options.snapshot.get()
    for (const [name, held] of this.#held) {
      const node = nodes.get(name)
      if (!node || this.#identityOf(node) !== held.identity) this.#drop(name, held)
    }
  }

  #identityOf({ spec }: NodeView): string {
    return JSON.stringify([spec.url, spec.tls, this.#options.snapshot.get().config.breaker])
  }

  /** Sets the gauge of a breaker. */
  #show(node: string, state: BreakerState): void {
    for (const each of ['closed', 'open', 'half-open'] as const)
      this.#options.metrics.breakerState.set({ node, state: each }, each === state ? 1 : 0)
  }

  #drop(name: string, { upstream }: Held): void {
    // An edited node gets a new breaker; the series of a removed node are removed with its others.
    if (upstream.breaker.state !== 'closed' && this.#options.snapshot.get().nodes.has(name))
      this.#show(name, 'closed')
    this.#held.delete(name)
    this.#restricted.delete(name)
    this.expected.forget(name)
    this.#silentModels.forget(name)
    upstream.stop()
    if (this.#held.size === 0) this.#stopTimers()
  }
}

/** A node with odd responses to probes may still respond to requests in flight. */
function isUnreachable({ status }: NodeView): boolean {
  const fault = status?.fault ?? 'unreachable'
  return fault === 'unreachable' || fault === 'refused'
}
