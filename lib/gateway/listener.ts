import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Address, bind } from '../shared/address.ts'
import type { Pipeline } from './pipeline.ts'

/** Limits of sheet reliability-security.md D2. A streamed answer is not a request: it may take as long as it likes. */
const limits = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16 * 1024,
  noDelay: true,
  keepAlive: true,
  requireHostHeader: true,
}

/** The data listener: HTTP/1.1 in front of the pipeline. */
export class Listener {
  readonly #server: Server
  readonly #pipeline: Pipeline
  #closing: Promise<void> | null = null

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline
    this.#server = createServer(limits)
    this.#server.on('request', (request, response) => this.#serve(request, response, false))
    // The caller waits for our word before it sends the body: authentication comes first, "100 Continue" after it.
    this.#server.on('checkContinue', (request, response) => this.#serve(request, response, true))
    this.#server.on('checkExpectation', (_request, response) => {
      response.writeHead(417, { 'content-length': 0, connection: 'close' }).end()
    })
    this.#server.on('clientError', answerBrokenRequest)
    this.#server.on('connect', (_request, socket) => socket.destroy())
  }

  /** Binds; see `bind`. */
  listen(address: Address): Promise<Address> {
    return bind(this.#server, address)
  }

  /** Takes no new connections and resolves when the requests under way have ended; `destroy` ends those left. */
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

  #serve(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    // While draining, an answered connection must not be reused for the next request.
    if (this.#closing !== null) response.shouldKeepAlive = false
    void this.#pipeline.handle(request, response, expectsContinue)
  }
}

/** What Node's parser could not read. The status is all that is said: there is no request to answer in a dialect. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const status =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? '408 Request Timeout'
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? '431 Request Header Fields Too Large'
        : error.code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW'
          ? '413 Payload Too Large'
          : '400 Bad Request'
  socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`, () => socket.destroy())
}
