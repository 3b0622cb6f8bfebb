import type { Socket } from 'node:net'
import { ChurnMap } from '../../shared/churn-map.ts'
import type { ProxyError } from '../../shared/errors.ts'
import { ClientGone, type Exchange } from './exchange.ts'

/** The exchanges with bytes that have not been handed to the kernel yet. */
export class OpenExchanges {
  readonly #open = new ChurnMap<Exchange, Exchange>()
  #idle: PromiseWithResolvers<void> | null = null

  /** Keeps an exchange until its connection closes or its response is out. */
  add(exchange: Exchange): void {
    this.#open.set(exchange, exchange)
    exchange.response.once('close', () => this.#close(exchange))
  }

  /** The exchange in progress on a connection, if any. */
  on(socket: Socket): Exchange | undefined {
    for (const exchange of this.#open.values()) if (exchange.request.socket === socket) return exchange
    return undefined
  }

  /** Ends every open exchange and tells the callers the reason. Returns how many there were. */
  abortAll(reason: ProxyError): number {
    for (const exchange of this.#open.values()) exchange.abort(reason)
    return this.#open.size
  }

  /** Resolves when no exchange is open. */
  idle(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve()
    this.#idle ??= Promise.withResolvers()
    return this.#idle.promise
  }

  #close(exchange: Exchange): void {
    if (!exchange.response.writableFinished)
      exchange.abort(new ClientGone('the caller closed the connection'))
    this.#open.delete(exchange)
    if (this.#open.size > 0) return
    this.#idle?.resolve()
    this.#idle = null
  }
}
