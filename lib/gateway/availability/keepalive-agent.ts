import { type ClientRequest, Agent as HttpAgent } from 'node:http'
import { type AgentOptions, Agent as HttpsAgent } from 'node:https'
import type { Socket } from 'node:net'
import type { NodeSpec } from '../../fleet/node.ts'
import { lookupNode } from '../../shared/net/node-address.ts'

/** Kept-alive sockets to one node. */
export interface KeepaliveAgent extends HttpAgent {
  /** Closes idle sockets that nobody has taken since the last sweep. */
  closeIdle(): void
  /** Closes idle sockets, and from now on each when its answer is over. */
  drain(): void
}

/** What Node's types leave out: how a ClientRequest asks for its socket. Libraries with agents of their own rely on it. */
interface Requested extends HttpAgent {
  readonly sockets: NodeJS.Dict<Socket[]>
  addRequest(request: ClientRequest, options: object): void
}

type AnyAgent = new (options: AgentOptions) => Requested

/** Where Node's agent keeps its sockets: by the address and the settings of TLS, which are all the same here. */
const name = 'node'

/**
 * Node's agent for one node. Left to itself it copies the options of each request, writes the address's name from them
 * three times and sets two timers, to find one idle socket: a twentieth of all that a request costs.
 */
function toOneNode(Base: AnyAgent) {
  return class extends Base implements KeepaliveAgent {
    /** Idle sockets not taken since the last sweep: the first of the list, since the last that came is the next to go. */
    #untaken = 0

    override getName(): string {
      return name
    }

    override addRequest(request: ClientRequest, options: object): void {
      const idle = this.freeSockets[name]
      const socket = idle?.pop()
      if (!idle || !socket || socket.destroyed) {
        super.addRequest(request, options)
        return
      }
      // As Node does it, but for a new id that async hooks would see: there are none.
      this.#untaken = Math.min(this.#untaken, idle.length)
      this.reuseSocket(socket, request)
      request.onSocket(socket)
      this.sockets[name] ??= []
      this.sockets[name].push(socket)
    }

    closeIdle(): void {
      const idle = this.freeSockets[name] ?? []
      const stale = idle.slice(0, this.#untaken)
      this.#untaken = idle.length - stale.length
      for (const socket of stale) socket.destroy()
    }

    drain(): void {
      this.maxFreeSockets = 0
      for (const socket of this.freeSockets[name]?.slice() ?? []) socket.destroy()
    }
  }
}

const PlainAgent = toOneNode(HttpAgent as unknown as AnyAgent)
const TlsAgent = toOneNode(HttpsAgent as unknown as AnyAgent)

/**
 * An agent for a node. It has no limit of sockets: slots limit what runs, and a limit here would be a hidden queue.
 *
 * Node itself destroys an idle socket on which bytes come, since 24.21 at the latest: they would be read as the start of
 * the next caller's answer (case 35 of test/fault-table.md).
 */
export function agentFor(spec: NodeSpec): KeepaliveAgent {
  const options = { keepAlive: true, maxFreeSockets: 256, ...optionsFor(spec) }
  return isTls(spec) ? new TlsAgent(options) : new PlainAgent(options)
}

/** An agent that connects to a node in the same way, anew for each request. */
export function freshAgentFor(spec: NodeSpec): HttpAgent {
  return isTls(spec) ? new HttpsAgent(optionsFor(spec)) : new HttpAgent(optionsFor(spec))
}

function optionsFor(spec: NodeSpec): AgentOptions {
  const { tls } = spec
  const options = { lookup: lookupNode, noDelay: true }
  if (!isTls(spec)) return options
  return { ...options, rejectUnauthorized: !tls?.insecure, ...(tls?.ca && { ca: tls.ca }) }
}

function isTls({ url }: NodeSpec): boolean {
  return url.startsWith('https:')
}
