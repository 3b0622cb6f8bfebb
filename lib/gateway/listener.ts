import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Metrics } from '../shared/metrics.ts'
import { type Address, bind } from '../shared/net/address.ts'
import { httpOptions, requestLimits } from '../shared/net/http-limits.ts'
import type { Pipeline } from './pipeline.ts'

const defaultLimits = {
  ...requestLimits,
  /** Each stream needs a second socket, to its node; the unit of the service allows 65,536 open files. */
  maxConnections: 25_000,
  /** Pipelined requests of one connection that may wait behind the one in progress. */
  maxPipelined: 100,
}

interface ListenerOptions {
  readonly snapshot: CurrentSnapshot
  readonly metrics: Metrics
  readonly limits?: Partial<typeof defaultLimits>
  /** Called when a connection could not be accepted. */
  readonly refused?: (error: Error) => void
}

/** The data listener: HTTP/1.1 in front of the pipeline. */
export class Listener {
  readonly #server: Server
  readonly #pipeline: Pipeline
  readonly #snapshot: CurrentSnapshot
  readonly #metrics: Metrics
  readonly #maxPipelined: number
  /** Open connections by caller address. */
  readonly #connections = new Map<string, number>()
  /** Pipelined requests that wait for the one before them, by connection. */
  readonly #pipelined = new WeakMap<Socket, number>()
  #closing: Promise<void> | null = null

  constructor(pipeline: Pipeline, { snapshot, metrics, limits = {}, refused = () => {} }: ListenerOptions) {
    const { maxRequestsPerSocket, maxConnections, maxPipelined, ...timeouts } = {
      ...defaultLimits,
      ...limits,
    }
    this.#pipeline = pipeline
    this.#snapshot = snapshot
    this.#metrics = metrics
    this.#maxPipelined = maxPipelined
    this.#server = createServer({ ...httpOptions, ...timeouts })
    this.#server.maxRequestsPerSocket = maxRequestsPerSocket
    this.#server.maxConnections = maxConnections
    this.#server.on('connection', (socket) => this.#admit(socket))
    this.#server.on('request', (request, response) => this.#serve(request, response, false))
    // With Expect the caller sends its body only after "100 Continue": authentication comes first.
    this.#server.on('checkContinue', (request, response) => this.#serve(request, response, true))
    this.#server.on('checkExpectation', (_request, response) => {
      response.writeHead(417, { 'content-length': 0, connection: 'close' }).end()
    })
    this.#server.on('clientError', (error, socket) => this.#break(error, socket as Socket))
    this.#server.on('connect', (_request, socket) => socket.destroy())
    // Without a listener for it, an accept(2) that fails would end the process.
    this.#server.on('error', refused)
    this.#server.on('drop', () => metrics.connectionsRefused.inc({ limit: 'total' }))
    this.#server.on('dropRequest', () => metrics.connectionsRefused.inc({ limit: 'requests' }))
  }

  /** Binds; see `bind`. */
  listen(address: Address): Promise<Address> {
    return bind(this.#server, address)
  }

  /** Accepts no new connections, closes idle ones, and resolves when all are closed. `destroy` closes the rest. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#server.close(() => resolve())
      this.#server.closeIdleConnections()
    })
    return this.#closing
  }

  /** Cuts every connection. */
  destroy(): void {
    this.#server.closeAllConnections()
  }

  #admit(socket: Socket): void {
    const address = socket.remoteAddress
    if (address === undefined) return // closed already
    const open = this.#connections.get(address) ?? 0
    const limit = this.#snapshot.get().config.limits.connections_per_address
    if (limit > 0 && open >= limit) {
      this.#metrics.connectionsRefused.inc({ limit: 'per_address' })
      socket.write(bareResponse(503))
      socket.destroySoon()
      return
    }
    this.#connections.set(address, open + 1)
    socket.once('close', () => this.#release(address))
  }

  #release(address: string): void {
    const left = (this.#connections.get(address) ?? 0) - 1
    if (left > 0) this.#connections.set(address, left)
    else this.#connections.delete(address)
  }

  #serve(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    // The last response of this connection closes it, so this request cannot be answered. Node gives such a request
    // the socket out of turn, and crashes the process when it is answered while an earlier one waits.
    if (!request.socket.writable) return
    // Node gives a response its socket when the responses before it are out. Until then a pipelined request must not
    // take a slot, and would not learn that the caller has left.
    if (response.socket === null) {
      this.#queue(request, response, expectsContinue)
      return
    }
    // While draining, a connection must not be used for another request.
    if (this.#closing !== null) response.shouldKeepAlive = false
    void this.#pipeline.handle(request, response, expectsContinue)
  }

  #queue(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    const { socket } = request
    if (socket.destroyed) return // by an earlier request of the same read
    const waiting = (this.#pipelined.get(socket) ?? 0) + 1
    if (waiting > this.#maxPipelined) {
      this.#metrics.connectionsRefused.inc({ limit: 'pipelined' })
      socket.destroy()
      return
    }
    this.#pipelined.set(socket, waiting)
    response.once('socket', () => {
      this.#pipelined.set(socket, (this.#pipelined.get(socket) ?? 1) - 1)
      this.#serve(request, response, expectsContinue)
    })
  }

  /** A request that Node's parser could not read, or did not get in time. */
  #break(error: NodeJS.ErrnoException, socket: Socket): void {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const refusal = refusalOf(error)
    const exchange = this.#pipeline.exchanges.on(socket)
    if (refusal.code === 'request_timeout' && exchange?.streamsBody) return
    if (!exchange || exchange.response.writableEnded) {
      // Without a parsed request the dialect is unknown: the status alone is sent.
      socket.end(bareResponse(refusal.status), () => socket.destroy())
      return
    }
    const { request, response } = exchange
    response.shouldKeepAlive = false
    if (!response.headersSent) exchange.abort(refusal)
    // Bytes that follow a complete request while its response is written. An incomplete request was refused already,
    // and lingers.
    else if (request.complete) socket.destroy()
  }
}

function refusalOf({ code }: NodeJS.ErrnoException): ProxyError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ProxyError('request_timeout')
    case 'HPE_HEADER_OVERFLOW':
      return new ProxyError('headers_too_large')
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new ProxyError('extensions_too_large')
    default:
      return new ProxyError('bad_request', { reason: 'the request is not well-formed HTTP/1.1' })
  }
}

function bareResponse(status: number): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`
}
