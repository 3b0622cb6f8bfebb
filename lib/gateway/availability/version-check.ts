import { type Agent, get as getPlain, type OutgoingHttpHeaders } from 'node:http'
import { get as getTls } from 'node:https'
import type { Clock } from '../../shared/clock.ts'
import type { Address } from '../../shared/net/address.ts'
import { ownFaultOf } from '../../shared/process/own-fault.ts'

/**
 * Error codes of the node or the way to it. Others (no name server, no file or port left here) say nothing about
 * either.
 */
const deadCodes: ReadonlySet<string> = new Set(['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'])

/** Whether an error of a connection proves that the other end is unreachable. */
export function provesUnreachable(error: Error & { code?: unknown; syscall?: unknown }): boolean {
  if (error.code === 'ECONNECT_TIMEOUT' || deadCodes.has(String(error.code))) return true
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error]
  return errors.every(failedToConnect) && ownFaultOf(error) === null
}

function failedToConnect(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect'
}

/** How a version check connects to its node. */
export interface VersionCheckWay {
  readonly isTls: boolean
  /** Opens a connection for each request. */
  readonly agent: Agent
  readonly path: string
  readonly headers: OutgoingHttpHeaders
  /** Milliseconds that the connection may take to come up. */
  readonly connectMs: number
  readonly clock: Clock
}

/**
 * One `GET /api/version` over its own connection. Ollama answers it at once however busy its models are, so it tells
 * a working node from a frozen one: the kernel of a stopped process still accepts connections and acknowledges bytes.
 *
 * A dead connection stays silent for as long as the kernel resends, a quarter of an hour (tcp_retries2 in tcp(7)),
 * and Node cannot set TCP_USER_TIMEOUT: hence a new connection.
 */
export class VersionCheck {
  /** Whether the connection came up; null when that is unknown. */
  readonly connected: Promise<boolean | null>
  #isAnswered = false
  readonly #destroy: () => void

  constructor({ host, port }: Address, { isTls, clock, connectMs, ...way }: VersionCheckWay) {
    const { promise, resolve } = Promise.withResolvers<boolean | null>()
    this.connected = promise
    const get = isTls ? getTls : getPlain
    const request = get({ host, port, ...way })
    const cancel = clock.after(connectMs, () => {
      resolve(false)
      request.destroy()
    })
    const connect = () => {
      cancel()
      resolve(true)
    }
    request.on('socket', (socket) => {
      if (socket.connecting) socket.once('connect', connect)
      else connect()
    })
    request.on('response', (response) => {
      this.#isAnswered = true
      response.on('error', () => {})
      response.destroy()
    })
    request.on('error', (error) => {
      cancel()
      resolve(provesUnreachable(error) ? false : null)
      // An established connection that breaks was closed by something that is awake.
      this.#isAnswered = true
    })
    this.#destroy = () => {
      cancel()
      resolve(null)
      request.destroy()
    }
  }

  /** Whether the node answered, if only with an error. */
  get isAnswered(): boolean {
    return this.#isAnswered
  }

  /** Closes the connection. */
  destroy(): void {
    this.#destroy()
  }
}
