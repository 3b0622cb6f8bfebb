import type { Contacts } from '../fleet/contacts.ts'
import type { NodeView } from '../fleet/node.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import { type Gate, openPassage, type Passage } from '../scheduler/gate.ts'
import type { Clock } from '../shared/clock.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import { Roster } from '../shared/roster.ts'
import type { Breaker, BreakerState } from './breaker.ts'
import { FirstTokens } from './first-token.ts'
import { agentFor, type NodeAgent } from './node-agent.ts'
import { NodePassage } from './node-passage.ts'

/** Idle sockets are given up after 15 to 30 s, before anything between us and the node forgets them. */
const sweepMs = 15_000

/** Where a node listens, in the parts that http-proxy asks for: those of a URL are worked out at each look. */
type Target = Readonly<Pick<URL, 'protocol' | 'host' | 'hostname' | 'port' | 'href'>>

/** The way to one node: its kept-alive sockets, its breaker, and its ear for back-pressure. */
export interface Upstream {
  readonly target: Target
  readonly agent: NodeAgent
  readonly breaker: Breaker
  readonly firstTokens: FirstTokens
  /**
   * The node said 503 busy or 429: no new requests for a while. To be told before the request's trial is settled.
   *
   * @param retryAfterMs what its Retry-After asked for.
   */
  busy(retryAfterMs?: number): void
  /** A model is not on the node, or its runner dies there: it is not asked for here for 30 s. */
  bar(model: string): void
  /** Tries to which the node has not begun to answer. */
  readonly silent: Roster<Silent, Silent>
}

/** A try that waits for the first sign of its node. */
export interface Silent {
  /** The node is known to be down: whoever can be served elsewhere need not wait for it. */
  nodeDown(): void
}

interface Held extends Upstream {
  readonly passage: NodePassage
  /** What it was made from: another address, other TLS or breaker settings need a new one. */
  readonly identity: string
}

interface UpstreamsOptions {
  readonly snapshot: CurrentSnapshot
  /** Told of what requests meet at each node. */
  readonly contacts?: Pick<Contacts, 'answered' | 'failed'>
  readonly metrics: Metrics
  readonly clock: Clock
  readonly dice: Dice
  /** Called when more or less may go to some node than before. */
  readonly changed: () => void
}

/** Every node's upstream, made on first use and dropped when the node leaves the fleet or moves. */
export class Upstreams implements Gate {
  readonly #options: UpstreamsOptions
  readonly #held = new Map<string, Held>()
  /** The passages that are not open: few, and each decision of the scheduler looks at every node. */
  readonly #narrow = new Map<string, NodePassage>()
  #cancelSweep: (() => void) | null = null
  /** Nodes that the last snapshot saw down. */
  #down: ReadonlySet<string> = new Set()

  constructor(options: UpstreamsOptions) {
    this.#options = options
    options.snapshot.onSwap(() => {
      this.#prune()
      this.#watchHealth()
    })
  }

  /** The upstream of a node; a request that still holds an older snapshot gets the newer way to it. */
  of(node: NodeView): Upstream {
    return this.#hold(node)
  }

  /** See Gate of the scheduler: nothing keeps requests from a node never used. */
  passage(node: string, model: string): Passage {
    return this.#narrow.get(node)?.of(model) ?? openPassage
  }

  breakerState(node: string): BreakerState {
    return this.#held.get(node)?.breaker.state ?? 'closed'
  }

  /** Closes every socket to every node. */
  close(): void {
    this.#stopSweeping()
    for (const { agent, passage } of this.#held.values()) {
      agent.destroy()
      passage.end()
    }
    this.#held.clear()
    this.#narrow.clear()
  }

  #hold(node: NodeView): Held {
    const held = this.#held.get(node.name)
    if (held) return held
    const passage = this.#passageFor(node.name)
    const fresh: Held = {
      identity: this.#identityOf(node),
      target: targetOf(node),
      agent: agentFor(node.spec),
      breaker: passage.breaker,
      firstTokens: new FirstTokens(),
      busy: (retryAfterMs) => passage.busy(retryAfterMs),
      bar: (model) => passage.bar(model),
      silent: new Roster(),
      passage,
    }
    this.#held.set(node.name, fresh)
    this.#cancelSweep ??= this.#sweepLater()
    return fresh
  }

  #sweepLater(): () => void {
    return this.#options.clock.after(sweepMs, () => {
      for (const { agent } of this.#held.values()) agent.sweep()
      this.#cancelSweep = this.#sweepLater()
    })
  }

  #stopSweeping(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = null
  }

  #passageFor(name: string): NodePassage {
    const { snapshot, contacts, metrics, clock, dice, changed } = this.#options
    const passage: NodePassage = new NodePassage({
      settings: snapshot.get().config.breaker,
      clock,
      dice,
      slots: () => snapshot.get().nodes.get(name)?.slots ?? 1,
      changed: () => {
        if (passage.isOpen) this.#narrow.delete(name)
        else this.#narrow.set(name, passage)
        changed()
      },
      moved: (state) => {
        metrics.breakerTransitions.inc({ node: name, to: state })
        for (const each of ['closed', 'open', 'half-open'] as const) {
          metrics.breakerState.set({ node: name, state: each }, each === state ? 1 : 0)
        }
      },
      told: (isGood) => (isGood ? contacts?.answered(name) : contacts?.failed(name)),
      panicked: () => metrics.panicPicks.inc({ node: name }),
    })
    return passage
  }

  /** A node that the leader sees up again is warmed up; one never seen down is not, so neither is any at our own start. */
  #watchHealth(): void {
    const down = new Set<string>()
    for (const node of this.#options.snapshot.get().nodes.values()) {
      if (node.health === 'down') {
        down.add(node.name)
        if (!this.#down.has(node.name) && isUnreachable(node)) this.#leave(node.name)
      } else if (this.#down.has(node.name) && node.available) this.#hold(node).passage.warmUp()
    }
    this.#down = down
  }

  /** A host that lost its power says nothing: without this, its requests would wait until their time is up. */
  #leave(node: string): void {
    for (const each of this.#held.get(node)?.silent.values() ?? []) each.nodeDown()
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

  /** Idle sockets go at once; those in use end with their streams. */
  #drop(name: string, { agent, passage }: Held): void {
    this.#held.delete(name)
    this.#narrow.delete(name)
    passage.end()
    agent.retire()
    if (this.#held.size === 0) this.#stopSweeping()
  }
}

/** A node that sends odd answers to probes may yet answer what it was asked before. */
function isUnreachable({ status }: NodeView): boolean {
  const fault = status?.fault ?? 'unreachable'
  return fault === 'unreachable' || fault === 'refused'
}

function targetOf({ spec }: NodeView): Target {
  const { protocol, host, hostname, port, href } = new URL(spec.url)
  return { protocol, host, hostname, port, href }
}
