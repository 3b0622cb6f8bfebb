import { type ClientRequest, Agent as HttpAgent } from 'node:http'
import { type AgentOptions, Agent as HttpsAgent } from 'node:https'
import type { Socket } from 'node:net'
import type { NodeSpec } from '../../fleet/node.ts'
import { lookupNode } from '../../shared/net/node-address.ts'

/** Kept-alive sockets to one node. */
export interface KeepaliveAgent extends HttpAgent {
  /** Closes idle sockets that were not used since the last call. */
  closeIdle(): void
  /** Closes idle sockets now, and the others when their response is over. */
  drain(): void
}

/**
 * A method of Node's agent that its types omit: a ClientRequest asks for its socket with it. Other libraries with
 * their own agents rely on it.
 */
interface Requested extends HttpAgent {
  readonly sockets: NodeJS.Dict<Socket[]>
  addRequest(request: ClientRequest, options: object): void
}

type AnyAgent = new (options: AgentOptions) => Requested

/**
 * The name under which Node's agent keeps its sockets, usually address and TLS settings; here they are all the same.
 */
const name = 'node'

/**
 * Node's agent, for one node. By default it copies the options of each request, builds the name of the address three
 * times and sets two timers to find an idle socket: a twentieth of the cost of a request.
 */
function toOneNode(Base: AnyAgent) {
  return class extends Base implements KeepaliveAgent {
    /** Idle sockets not used since the last `closeIdle`, at the front of the list: the last that came is used first. */
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
      // As Node does, but without a new id for async hooks: there are none.
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
 * Node destroys an idle socket that receives bytes, since 24.21 at the latest: they would be read as the start of the
 * next response (case 35 of test/fault-table.md).
 */
export function agentFor(spec: NodeSpec): KeepaliveAgent {
  const options = { keepAlive: true, maxFreeSockets: 256, ...optionsFor(spec) }
  return isTls(spec) ? new TlsAgent(options) : new PlainAgent(options)
}

/** An agent with a new connection for each request. */
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
