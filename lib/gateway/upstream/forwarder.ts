import type { Agent } from 'node:http'
import type { Clock } from '../../shared/clock.ts'
import { canRepeat, type RequestBody } from '../body/streaming-body.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import { HttpProxy } from './http-proxy.ts'
import { ProxyCall } from './proxy-call.ts'
import type { UpstreamRequest } from './upstream-request.ts'

const largeBytes = 64 * 1024

/** Sends requests to nodes, and once more where the loss of a connection says nothing of the node. */
export class Forwarder {
  readonly #proxy = new HttpProxy()
  readonly #clock: Clock
  readonly #onOwnFault: (error: Error) => void

  /** @param onOwnFault called when an attempt failed because this process lacks files, ports or memory. */
  constructor(clock: Clock, onOwnFault: (error: Error) => void = () => {}) {
    this.#clock = clock
    this.#onOwnFault = onOwnFault
  }

  /** Sends a request to its node and the response to its delivery. Settles once; never rejects. */
  async send(request: UpstreamRequest): Promise<UpstreamOutcome> {
    // A streamed body gets a new socket: on a kept-alive one that turns out to be closed its first bytes would be lost.
    const { agent: kept, freshAgent } = request.upstream
    const agent = Buffer.isBuffer(request.body) ? kept : freshAgent
    const call = this.#attempt(request, agent)
    const outcome = await call.outcome
    if (outcome.kind !== 'node-failed') return outcome
    if (outcome.fault === 'own-fault') this.#onOwnFault(outcome.cause)
    // The node closed a kept-alive socket while we were writing to it, and answered no byte: send again on a new socket
    // (nodejs/node #47130).
    const isStale = outcome.fault === 'stale-socket'
    // The node closed while a large body was sent: it may have answered, and the broken write lost the response. With
    // Expect: 100-continue it can refuse before the body is written.
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
    this.#proxy.send(call, {
      target: request.upstream.target,
      agent,
      connectTimeout: request.timeouts.connect,
    })
    return call
  }
}

/** Whether sending a body takes so long that the node may close meanwhile. */
function isLarge({ length }: RequestBody): boolean {
  return length === null || length > largeBytes
}
