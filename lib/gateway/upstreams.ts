import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Socket } from 'node:net'
import type { NodeView } from '../fleet/node.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import { Breaker, type BreakerState } from './breaker.ts'
import { FirstTokens } from './first-token.ts'

/** The way to one node: its kept-alive sockets and its breaker. */
export interface Upstream {
  readonly target: URL
  readonly agent: HttpAgent
  readonly breaker: Breaker
  readonly firstTokens: FirstTokens
}

interface Held extends Upstream {
  /** What it was made from: another address, other TLS or breaker settings need a new one. */
  readonly identity: string
}

interface UpstreamsOptions {
  readonly snapshot: CurrentSnapshot
  readonly metrics: Metrics
  readonly dice: Dice
  /** Called when some breaker changed its state. */
  readonly changed: () => void
}

/** Every node's upstream, made on first use and dropped when the node leaves the fleet or moves. */
export class Upstreams {
  readonly #options: UpstreamsOptions
  readonly #held = new Map<string, Held>()

  constructor(options: UpstreamsOptions) {
    this.#options = options
    options.snapshot.onSwap(() => this.#prune())
  }

  /** The upstream of a node; a request that still holds an older snapshot gets the newer way to it. */
  of(node: NodeView): Upstream {
    const held = this.#held.get(node.name)
    if (held) return held
    const fresh = {
      identity: this.#identityOf(node),
      target: new URL(node.spec.url),
      agent: agentFor(node),
      breaker: this.#breakerFor(node.name),
      firstTokens: new FirstTokens(),
    }
    this.#held.set(node.name, fresh)
    return fresh
  }

  /** See Gate of the scheduler: a node never used has a closed breaker. */
  admits(node: string): boolean {
    return this.#held.get(node)?.breaker.admits ?? true
  }

  breakerState(node: string): BreakerState {
    return this.#held.get(node)?.breaker.state ?? 'closed'
  }

  /** Closes every socket to every node. */
  close(): void {
    for (const { agent, breaker } of this.#held.values()) {
      agent.destroy()
      breaker.shutdown()
    }
    this.#held.clear()
  }

  #breakerFor(name: string): Breaker {
    const { snapshot, metrics, dice, changed } = this.#options
    return new Breaker(snapshot.get().config.breaker, dice, (state) => {
      for (const each of ['closed', 'open', 'half-open'] as const) {
        metrics.breakerState.set({ node: name, state: each }, each === state ? 1 : 0)
      }
      changed()
    })
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
  #drop(name: string, { agent, breaker }: Held): void {
    this.#held.delete(name)
    breaker.shutdown()
    for (const sockets of Object.values(agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy()
  }
}

function agentFor({ spec }: NodeView): HttpAgent {
  // No maxSockets: slots limit what runs, and a limit here would be a hidden queue. Idle sockets are given up after
  // 30 s, before anything between us and the node forgets them.
  const options = { keepAlive: true, maxFreeSockets: 256, timeout: 30_000, noDelay: true }
  if (!spec.url.startsWith('https:')) return guardIdleSockets(new HttpAgent(options))
  const { ca, insecure = false } = spec.tls ?? {}
  return guardIdleSockets(
    new HttpsAgent({ ...options, rejectUnauthorized: !insecure, ...(ca ? { ca } : {}) }),
  )
}

/**
 * A byte on a socket that no request is using belongs to nobody, and would be read as the start of the next caller's
 * answer: such a socket is destroyed (sheet reliability-security.md C-B 35).
 */
function guardIdleSockets<A extends HttpAgent>(agent: A): A {
  const kill = function (this: Socket) {
    this.destroy()
  }
  const keep = agent.keepSocketAlive.bind(agent)
  agent.keepSocketAlive = (socket: Socket) => {
    socket.on('data', kill)
    socket.resume()
    return keep(socket)
  }
  const reuse = agent.reuseSocket.bind(agent)
  agent.reuseSocket = (socket: Socket, request) => {
    socket.off('data', kill)
    reuse(socket, request)
  }
  return agent
}
