import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Clock } from '../../shared/clock.ts'
import type { Address } from '../../shared/net/address.ts'
import { readInTurn } from '../../shared/turns.ts'
import type { Pulse } from '../availability/silence.ts'
import type { LeaveReason, StreamingAttempt, WaitingAttempt } from '../availability/upstream.ts'
import { provesUnreachable } from '../availability/version-check.ts'
import type { RequestBody, Streamed } from '../body/streaming-body.ts'
import { noTokens } from '../http/exchange.ts'
import type { UpstreamFault, UpstreamOutcome } from '../response/outcome.ts'
import { PieceCount } from '../response/piece-count.ts'
import type { Delivery } from '../response/response-writer.ts'
import { AttemptDeadlines, type AttemptPhase, type TimedAttempt } from './attempt-deadlines.ts'
import { readPastBrokenWrite } from './broken-write.ts'
import { ProxiedExchange } from './http-proxy.ts'
import { faultOf, flawOf } from './upstream-faults.ts'
import type { UpstreamRequest } from './upstream-request.ts'

/** Interim responses (1xx) before the response. Ollama sends none; a proxy in front of it may send a few. */
const maxInterim = 1000
/** After so many milliseconds without a response to `Expect: 100-continue` the body is sent, as curl does. */
const continueMs = 1000
/** An idle connection notices an outage within 20 s; one on which something was sent needs more (see `VersionCheck`). */
const keepAlive = { enable: true, initialDelay: 10_000, interval: 1000, count: 10 }

/**
 * One request on its way to one node and back: waiting for the head of the response, streaming, paused because the caller
 * reads slowly, or settled. The first of all events that end it settles it and closes what is open towards the node;
 * later events find it settled.
 */
export class ProxyCall extends ProxiedExchange implements WaitingAttempt, StreamingAttempt, TimedAttempt {
  readonly outcome: Promise<UpstreamOutcome>
  readonly #request: UpstreamRequest
  readonly #clock: Clock
  #phase: AttemptPhase = 'waiting'
  readonly #deadlines: AttemptDeadlines
  /** The body that is being passed on; null when the node has all of it. */
  #streamedBody: Streamed | null = null
  #resolve: (outcome: UpstreamOutcome) => void
  #outgoing: ClientRequest | null = null
  /** Bytes that came on the connection before this call used it. */
  #readBefore = 0
  #response: IncomingMessage | null = null
  #delivery: Delivery | null = null
  #pieces: PieceCount | null = null

  constructor(request: UpstreamRequest, clock: Clock) {
    const { method, path, upstream, headers, expectsContinue } = request
    super(method, upstream.path + path, expectsContinue ? { ...headers, expect: '100-continue' } : headers)
    this.#request = request
    this.#clock = clock
    const { promise, resolve } = Promise.withResolvers<UpstreamOutcome>()
    this.outcome = promise
    this.#resolve = resolve
    request.signal.addEventListener('abort', this.#abort, { once: true })
    this.#deadlines = new AttemptDeadlines(request, clock, this)
    upstream.waiting.set(this, this)
    if (request.signal.aborted) this.#abort()
    else this.#deadlines.arm()
  }

  get phase(): AttemptPhase {
    return this.#phase
  }

  get streamedBody(): Streamed | null {
    return this.#streamedBody
  }

  /** Writes the body. The node's time to answer begins when it has all of it. */
  pipe(outgoing: ClientRequest): void {
    this.#outgoing = outgoing
    const { body } = this.#request
    if (Buffer.isBuffer(body) && !this.#request.expectsContinue) return void outgoing.end(body)
    if (!Buffer.isBuffer(body)) this.#streamedBody = body
    // http-proxy calls `sending` for no request with Expect.
    if (this.#request.expectsContinue) outgoing.once('socket', () => this.sending(outgoing))
    void this.#send(outgoing, body)
    if (this.#phase === 'waiting') this.#deadlines.arm()
  }

  /** Sending fails only when the exchange is over, which has settled this call. */
  async #send(outgoing: ClientRequest, body: RequestBody): Promise<void> {
    const isAnswered = () => this.#phase !== 'waiting'
    try {
      if (this.#request.expectsContinue) await this.#untilContinue(outgoing)
      if (isAnswered()) return
      if (Buffer.isBuffer(body)) return void outgoing.end(body)
      await body.sendTo(outgoing, {
        progressed: () => this.#deadlines.progressed(this.#clock.now()),
        get isAnswered() {
          return isAnswered()
        },
      })
    } catch {
      return
    }
    // After a response to part of the body the rest is not sent: see #settle.
    if (isAnswered()) return
    this.#streamedBody = null
    this.#deadlines.requestSent(this.#clock.now())
  }

  /** Resolves when the node wants the body, has responded, closes, or does not respond to Expect in time. */
  #untilContinue(outgoing: ClientRequest): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = this.#clock.after(continueMs, resolve)
    for (const event of ['continue', 'response', 'close']) outgoing.once(event, resolve)
    return promise.finally(cancel)
  }

  sending(outgoing: ClientRequest): void {
    this.#readBefore = outgoing.socket?.bytesRead ?? 0
    // The keep-alive agent sets this for its own sockets.
    if (!Buffer.isBuffer(this.#request.body) && outgoing.socket) {
      outgoing.socket.setKeepAlive(keepAlive)
      readPastBrokenWrite(outgoing.socket)
    }
    let interim = 0
    outgoing.on('information', () => {
      if (++interim > maxInterim)
        this.failWith('bad-response', new Error('the node sends too many interim (1xx) responses'))
    })
    outgoing.on('upgrade', (_answer, socket) => {
      socket.destroy()
      this.failWith('bad-response', new Error('the node switched protocols unasked'))
    })
  }

  receive(response: IncomingMessage): void {
    if (this.#phase === 'settled') {
      response.destroy()
      return
    }
    response.on('error', (error) => this.fail(error))
    const flaw = flawOf(response)
    if (flaw !== null) {
      this.failWith('bad-response', new Error(flaw))
      return
    }
    this.#pieces = new PieceCount(this.#recordProgress())
    this.#phase = 'streaming'
    this.#request.upstream.waiting.delete(this)
    this.#request.upstream.streaming.set(this, this)
    this.#response = response
    this.#delivery = this.#request.receive({
      status: response.statusCode ?? 0,
      contentType: response.headers['content-type'] ?? '',
      headers: response.headers,
    })
    this.#deadlines.headReceived()
    response.on('data', (chunk: Buffer) => this.#take(chunk))
    response.on('end', () => this.#finish())
    response.on('close', () => {
      // This event also follows every complete response. An Error captures its stack, which is not free.
      if (this.#phase === 'settled') return
      this.failWith('broken-off', new Error('the node closed the connection before the end of its response'))
    })
  }

  /** Whether the whole request was written to the kernel. */
  get isSent(): boolean {
    return this.#streamedBody === null && this.#outgoing?.writableFinished === true
  }

  get waitingSince(): number {
    return this.#deadlines.sentAt
  }

  get address(): Address | null {
    const { remoteAddress: host, remotePort: port } = this.#outgoing?.socket ?? {}
    return host !== undefined && port !== undefined ? { host, port } : null
  }

  get pulse(): Pulse | null {
    return this.#request.pulse
  }

  get bodyBytes(): number {
    return this.#request.body.length ?? 0
  }

  leave(reason: Exclude<LeaveReason, 'slow'>): void {
    if (this.#phase === 'waiting') this.#deadlines.leave(reason)
  }

  reachable(): void {
    this.#deadlines.reachable()
  }

  thawed(): void {
    this.#deadlines.thawed()
  }

  stall(): void {
    if (this.#phase === 'streaming') this.#deadlines.stall()
  }

  /** An error of http-proxy or of the response stream. */
  fail(error: Error): void {
    if (this.#phase === 'settled') return
    if (this.#phase !== 'waiting') {
      this.failWith('broken-off', error)
      return
    }
    const outgoing = this.#outgoing
    const forMs = this.#clock.now() - this.#deadlines.sentAt
    const heard = (outgoing?.socket?.bytesRead ?? 0) > this.#readBefore
    this.failWith(faultOf(error, { request: outgoing, forMs, heard }), error)
    if (provesUnreachable(error)) this.#request.upstream.connectFailed(this.#clock.now())
  }

  #take(chunk: Buffer): void {
    if (this.#phase === 'settled' || !this.#delivery) return
    const now = this.#recordProgress()
    const next = this.#pieces?.add(chunk.length, now)
    if (next === 'give-up') {
      this.#request.upstream.takeTurns()
      this.failWith('bad-response', new Error('the node sends its response in pieces of a few bytes'))
      return
    }
    if (next === 'pause') void this.#yieldTurn()
    const outcome = this.#guarded(() => this.#delivery?.take(chunk) ?? null)
    if (outcome) {
      this.#settle(outcome)
      this.closeUpstream()
    } else if (this.#delivery.isFull) {
      this.#phase = 'paused'
      this.#response?.pause()
      this.#delivery.onceWritable(this.#resume)
    }
  }

  #recordProgress(): number {
    const now = this.#clock.now()
    this.#deadlines.progressed(now)
    this.#request.upstream.heardAt = now
    if (this.#request.pulse) this.#request.pulse.heardAt = now
    return now
  }

  /** Many small pieces in a row would hold up other requests: the next is read in a later turn. */
  async #yieldTurn(): Promise<void> {
    if (this.#response) await readInTurn(this.#response.socket)
    this.#pieces?.turnBegan(this.#clock.now())
  }

  #finish(): void {
    if (this.#phase === 'settled' || !this.#delivery) return
    const outcome = this.#guarded(() => this.#delivery?.finish() ?? null)
    if (outcome) this.#settle(outcome)
  }

  /** A malformed header of the node throws when it is sent on, which is the node's fault. */
  #guarded(pass: () => UpstreamOutcome | null): UpstreamOutcome | null {
    try {
      return pass()
    } catch (error) {
      this.failWith('bad-response', error as Error)
      return null
    }
  }

  readonly #resume = () => {
    if (this.#phase !== 'paused') return
    this.#phase = 'streaming'
    this.#deadlines.progressed(this.#clock.now())
    this.#response?.resume()
    this.#deadlines.arm()
  }

  readonly #abort = () => {
    this.#settle({ kind: 'client-gone', reason: 'closed' })
  }

  /** The node, or its response, is at fault. */
  failWith(fault: UpstreamFault, cause: Error): void {
    const { committed = false, tokens = noTokens } = this.#delivery ?? {}
    this.#settle({ kind: 'node-failed', fault, committed, tokens, cause })
  }

  #settle(outcome: UpstreamOutcome): void {
    if (this.#phase === 'settled') return
    this.#phase = 'settled'
    this.#delivery?.close()
    this.#deadlines.cancel()
    const { waiting, streaming } = this.#request.upstream
    if (!waiting.delete(this)) streaming.delete(this)
    this.#request.signal.removeEventListener('abort', this.#abort)
    const isAnswered = outcome.kind === 'done' || outcome.kind === 'refused'
    // After a response to part of an upload, nothing reads the rest.
    if (!isAnswered || this.#streamedBody !== null) this.closeUpstream()
    this.#resolve(outcome)
  }
}
