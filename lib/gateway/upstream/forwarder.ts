import type { Agent, ClientRequest, IncomingMessage } from 'node:http'
import httpProxy from 'http-proxy'
import type { Clock } from '../../shared/clock.ts'
import { canRepeat, type RequestBody } from '../body/streaming-body.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import { ProxyCall } from './proxy-call.ts'
import type { UpstreamRequest } from './upstream-request.ts'

/** http-proxy as it is used here: an Attempt plays both the caller's request and the caller's response. */
interface Proxy {
  web(request: ProxyCall, response: ProxyCall, options: object, failed: (error: Error) => void): void
  on(event: 'proxyReq', listener: (request: ClientRequest, call: ProxyCall) => void): void
  on(event: 'proxyRes', listener: (answer: IncomingMessage, call: ProxyCall) => void): void
  on(event: 'error', listener: () => void): void
}

const largeBytes = 64 * 1024

/**
 * http-proxy behind one promise that settles exactly once.
 *
 * It is handed an Attempt in place of the caller's request and response, so it sees only what we built and cannot touch
 * the caller. That closes the holes of docs/reliability.md#http-proxy: smuggling through rewritten lengths, skipped
 * hooks, forwarded hop-by-hop headers, answers left hanging, crashes on odd status lines.
 */
export class Forwarder {
  readonly #proxy: Proxy
  readonly #clock: Clock
  readonly #ownFault: (error: Error) => void

  /** @param ownFault told of a try that failed for want of something of this process. */
  constructor(clock: Clock, ownFault: (error: Error) => void = () => {}) {
    this.#clock = clock
    this.#ownFault = ownFault
    // The path is a row of our route table: http-proxy need not parse it again and join it to the target's.
    const path = { prependPath: false, toProxy: true }
    const options = { ...path, selfHandleResponse: true, ws: false, followRedirects: false, xfwd: false }
    this.#proxy = httpProxy.createProxyServer(options) as unknown as Proxy
    this.#proxy.on('proxyReq', (request, call) => call.sending(request))
    this.#proxy.on('proxyRes', (answer, call) => call.receive(answer))
    // Every call passes a callback for its errors; without a listener a stray one would be thrown.
    this.#proxy.on('error', () => {})
  }

  /** Sends one order to its node and its answer to the caller. Never rejects. */
  async send(request: UpstreamRequest): Promise<UpstreamOutcome> {
    // An upload gets a socket of its own: one that turns out to be closed may cost bytes that are not here any more.
    const { agent: kept, freshAgent } = request.upstream
    const agent = Buffer.isBuffer(request.body) ? kept : freshAgent
    const call = this.#attempt(request, agent)
    const outcome = await call.outcome
    if (outcome.kind !== 'node-failed') return outcome
    if (outcome.fault === 'own-fault') this.#ownFault(outcome.cause)
    // The node closed a kept-alive socket while we were writing to it: not one byte was answered, so ask again on a
    // socket of its own (nodejs/node #47130).
    const isStale = outcome.fault === 'stale-socket'
    // It closed while it was being sent a large body: it may have answered, and the broken write lost that. Now it is asked
    // whether it wants the body, and can say no before anything is written.
    const isBroken =
      outcome.fault === 'reset' &&
      !call.isSent &&
      !request.expectsContinue &&
      isLarge(request.body) &&
      canRepeat(request.body)
    if (!isStale && !isBroken) return outcome
    request.onResend()
    return this.#attempt(isBroken ? { ...request, expectsContinue: true } : request, freshAgent).outcome
  }

  #attempt(request: UpstreamRequest, agent: Agent): ProxyCall {
    const call = new ProxyCall(request, this.#clock)
    const options = { target: request.upstream.target, agent, connectTimeout: request.timeouts.connect }
    try {
      this.#proxy.web(call, call, options, (error) => call.fail(error))
    } catch (error) {
      call.fail(error as Error)
    }
    return call
  }
}

/** Whether sending it takes so long that the node may close meanwhile. */
function isLarge({ length }: RequestBody): boolean {
  return length === null || length > largeBytes
}
