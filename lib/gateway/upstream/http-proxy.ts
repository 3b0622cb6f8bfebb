import type { Agent, ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import httpProxy from 'http-proxy'
import type { UpstreamTarget } from '../availability/upstream.ts'

/** The connection of the caller, as http-proxy sees it: open. */
const openConnection = { destroyed: false }

/**
 * What http-proxy gets in place of the caller's request and response, so that it sees nothing of the real ones and cannot
 * touch them: `method`, `url`, `headers`, `socket` and `pipe` of a request, `on('close')` and the flags of a response.
 * That closes the holes of docs/reliability.md#http-proxy (docs/decisions/0001-http-proxy-behind-one-call.md).
 */
export abstract class ProxiedExchange {
  readonly method: string
  readonly url: string
  readonly headers: OutgoingHttpHeaders
  readonly httpVersionMajor = 1
  readonly socket = openConnection
  /** http-proxy would add an 'end' listener per response that nothing uses; `finished` avoids it. */
  readonly finished = true
  readonly headersSent = true
  readonly writableFinished = false
  #isClosed = false
  #close: () => void = () => {}

  constructor(method: string, url: string, headers: OutgoingHttpHeaders) {
    this.method = method
    this.url = url
    this.headers = headers
  }

  /** http-proxy listens for the close of the caller's connection, and then closes the one to the node. */
  on(event: string, listener: () => void): this {
    if (event !== 'close') return this
    this.#close = listener
    if (this.#isClosed) listener()
    return this
  }

  /** http-proxy passes the request to the node, which the body is to be written to. */
  abstract pipe(outgoing: ClientRequest): void

  /** The request has a socket. */
  abstract sending(outgoing: ClientRequest): void

  /** The head of the node's response is here. */
  abstract receive(response: IncomingMessage): void

  abstract fail(error: Error): void

  /** Closes the request to the node. */
  protected closeUpstream(): void {
    this.#isClosed = true
    this.#close()
  }
}

/** The part of http-proxy's interface that is used, with an exchange of ours on the caller's side. */
interface Proxy {
  web(request: ProxiedExchange, response: ProxiedExchange, options: object, failed: (e: Error) => void): void
  on(event: 'proxyReq', listener: (outgoing: ClientRequest, exchange: ProxiedExchange) => void): void
  on(event: 'proxyRes', listener: (response: IncomingMessage, exchange: ProxiedExchange) => void): void
  on(event: 'error', listener: () => void): void
}

/** How http-proxy connects to a node. */
interface Way {
  readonly target: UpstreamTarget
  readonly agent: Agent
  /** Milliseconds. */
  readonly connectTimeout: number
}

/** http-proxy, and all that is needed to use it safely. No other file imports the package. */
export class HttpProxy {
  readonly #proxy: Proxy

  constructor() {
    // The path is a row of our route table: http-proxy need not parse it again and join it to the target's.
    const path = { prependPath: false, toProxy: true }
    const options = { ...path, selfHandleResponse: true, ws: false, followRedirects: false, xfwd: false }
    this.#proxy = httpProxy.createProxyServer(options) as unknown as Proxy
    this.#proxy.on('proxyReq', (outgoing, exchange) => exchange.sending(outgoing))
    this.#proxy.on('proxyRes', (response, exchange) => exchange.receive(response))
    // Each call passes a callback for its errors; an error without a listener would be thrown.
    this.#proxy.on('error', () => {})
  }

  /** Sends a request. Never throws: `fail` of the exchange is called. */
  send(exchange: ProxiedExchange, way: Way): void {
    try {
      this.#proxy.web(exchange, exchange, way, (error) => exchange.fail(error))
    } catch (error) {
      exchange.fail(error as Error)
    }
  }
}
