import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { Clock } from '../shared/clock.ts'
import type { Order } from './order.ts'

/** What a node did wrong. */
export type Fault =
  | 'unreachable' // refused, no route, unknown host, TLS not acceptable
  | 'connect-timeout'
  | 'stale-socket' // a kept-alive socket was closed under us before any byte came back
  | 'reset' // the connection broke before the answer's head
  | 'first-token-timeout'
  | 'bad-response' // no HTTP, or a status no answer may have
  | 'broken-off' // the connection broke within the answer
  | 'stalled' // no byte of the answer for too long
  | 'request-timeout' // the whole request took too long

/** How a try at a node ended. */
export type Outcome =
  | { readonly kind: 'done' }
  /** The node said no, and nothing of it has been sent to the caller yet. */
  | { readonly kind: 'refused'; readonly status: number; readonly contentType: string; readonly body: Buffer }
  | { readonly kind: 'client-gone'; readonly reason: string }
  | {
      readonly kind: 'node-failed'
      readonly fault: Fault
      /** Bytes of the answer have reached the caller: nobody else can answer any more. */
      readonly committed: boolean
      readonly cause: Error
    }

const unreachableCodes = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
])
const maxErrorBytes = 1024 * 1024

/**
 * One try at one node. Its state is where it is: waiting for the head of the answer, streaming, paused because the
 * caller reads slowly, or settled. Whatever happens first settles it, closes what is still open towards the node, and
 * later events find it settled.
 *
 * To http-proxy it plays the caller's request (`method`, `url`, `headers`, `pipe`) and the caller's response
 * (`on('close')`, `finished`), so that nothing of the real ones is in its hands.
 */
export class Attempt {
  readonly outcome: Promise<Outcome>
  readonly method: string
  readonly url: string
  readonly headers: OutgoingHttpHeaders
  readonly httpVersionMajor = 1
  readonly socket = { destroyed: false }
  readonly finished = false
  readonly headersSent = true
  readonly writableFinished = false

  readonly #order: Order
  readonly #clock: Clock
  readonly #startedAt: number
  #state: 'waiting' | 'streaming' | 'paused' | 'settled' = 'waiting'
  /** When the current state last made progress: the head or a byte came, or the caller stopped reading. */
  #movedAt: number
  #resolve: (outcome: Outcome) => void
  #closeUpstream: () => void = () => {}
  #cancelTimer: () => void = () => {}
  #request: ClientRequest | null = null

  constructor(order: Order, clock: Clock) {
    this.#order = order
    this.#clock = clock
    this.method = order.method
    this.url = order.path
    this.headers = order.headers
    this.#startedAt = clock.now()
    this.#movedAt = this.#startedAt
    const { promise, resolve } = Promise.withResolvers<Outcome>()
    this.outcome = promise
    this.#resolve = resolve
    order.signal.addEventListener('abort', this.#abort, { once: true })
    if (order.signal.aborted) this.#abort()
    else this.#arm()
  }

  /** Played for http-proxy: it asks to be told when the caller's connection closes, and then closes its own. */
  on(event: string, listener: () => void): this {
    if (event === 'close') this.#closeUpstream = listener
    if (event === 'close' && this.#state === 'settled') listener()
    return this
  }

  /** Played for http-proxy: the body, whole. */
  pipe(request: ClientRequest): void {
    request.end(this.#order.body)
  }

  /** The request has its socket. */
  sending(request: ClientRequest): void {
    this.#request = request
    request.on('upgrade', (_answer, socket) => {
      socket.destroy()
      this.#failWith('bad-response', new Error('the node switched protocols unasked'))
    })
  }

  /** The head of the answer is here. */
  receive(answer: IncomingMessage): void {
    if (this.#state === 'settled') {
      answer.destroy()
      return
    }
    const status = answer.statusCode ?? 0
    this.#movedAt = this.#clock.now()
    answer.on('error', (error) => this.fail(error))
    if (status < 200 || status > 599 || (status >= 300 && status < 400)) {
      this.#failWith('bad-response', new Error(`the node answered with status ${status}`))
      return
    }
    this.#state = 'streaming'
    this.#order.answered(status, answer.headers['content-type'] ?? '')
    if (status >= 400) this.#collect(answer, status)
    else this.#stream(answer, status)
    answer.on('close', () => {
      // After every good answer as well, and an Error is not free: its stack is captured.
      if (this.#state === 'settled') return
      this.#failWith('broken-off', new Error('the node closed the connection within its answer'))
    })
  }

  /** http-proxy or the answer's stream reports an error. */
  fail(error: Error): void {
    this.#failWith(this.#faultOf(error), error)
  }

  /** The caller's answer begins with the first byte, not with the head: until then another node may still answer. */
  #stream(answer: IncomingMessage, status: number): void {
    const { response } = this.#order
    const resume = () => {
      if (this.#state !== 'paused') return
      this.#state = 'streaming'
      this.#movedAt = this.#clock.now()
      answer.resume()
    }
    response.on('drain', resume)
    answer.on('data', (chunk: Buffer) => {
      this.#movedAt = this.#clock.now()
      if (!response.headersSent) this.#commit(answer, status)
      if (this.#state === 'settled' || response.write(chunk)) return
      this.#state = 'paused'
      answer.pause()
      this.#arm()
    })
    answer.on('end', () => {
      response.off('drain', resume)
      if (!response.headersSent) this.#commit(answer, status)
      if (this.#state === 'settled') return
      response.end()
      this.#settle({ kind: 'done' })
    })
  }

  #commit(answer: IncomingMessage, status: number): void {
    const { response, responseHeaders } = this.#order
    try {
      response.writeHead(status, { ...passedOn(answer.headers), ...responseHeaders })
    } catch (error) {
      this.#failWith('bad-response', error as Error) // a header value that may not be sent on
    }
  }

  /** An error answer is read whole before anything is decided: another node may do better. */
  #collect(answer: IncomingMessage, status: number): void {
    const chunks: Buffer[] = []
    let size = 0
    answer.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > maxErrorBytes) this.#failWith('bad-response', new Error('the error answer has no end'))
      else chunks.push(chunk)
    })
    answer.on('end', () => {
      const contentType = answer.headers['content-type'] ?? 'application/json; charset=utf-8'
      this.#settle({ kind: 'refused', status, contentType, body: Buffer.concat(chunks) })
    })
  }

  readonly #abort = () => {
    this.#settle({ kind: 'client-gone', reason: 'closed' })
  }

  /** One timer per attempt, set to the nearest limit: chunks only note the time, they set no timers. */
  #arm(): void {
    this.#cancelTimer()
    const { at } = this.#limit()
    this.#cancelTimer = this.#clock.after(Math.max(1, at - this.#clock.now()), () => this.#check())
  }

  #check(): void {
    const { at, fault } = this.#limit()
    if (this.#clock.now() < at) this.#arm()
    else if (fault === 'slow-reader')
      this.#settle({ kind: 'client-gone', reason: 'the caller stopped reading' })
    else
      this.#failWith(fault, new Error(`${fault} after ${Math.round(this.#clock.now() - this.#startedAt)} ms`))
  }

  /** The nearest moment at which this attempt must end, and why. */
  #limit(): { at: number; fault: Fault | 'slow-reader' } {
    const { first_token, between_tokens, idle_write, request } = this.#order.timeouts
    const whole = { at: this.#startedAt + request, fault: 'request-timeout' as const }
    const step =
      this.#state === 'waiting'
        ? { at: this.#movedAt + first_token, fault: 'first-token-timeout' as const }
        : this.#state === 'paused'
          ? { at: this.#movedAt + idle_write, fault: 'slow-reader' as const }
          : { at: this.#movedAt + between_tokens, fault: 'stalled' as const }
    return step.at < whole.at ? step : whole
  }

  #faultOf(error: Error & { code?: unknown }): Fault {
    const code = String(error.code ?? '')
    if (this.#state !== 'waiting') return 'broken-off'
    if (code === 'ECONNECT_TIMEOUT') return 'connect-timeout'
    if (unreachableCodes.has(code) || /^(ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/.test(code))
      return 'unreachable'
    if (code.startsWith('HPE_')) return 'bad-response'
    const lost = code === 'ECONNRESET' || code === 'EPIPE'
    return lost && this.#request?.reusedSocket ? 'stale-socket' : 'reset'
  }

  #failWith(fault: Fault, cause: Error): void {
    this.#settle({ kind: 'node-failed', fault, committed: this.#order.response.headersSent, cause })
  }

  #settle(outcome: Outcome): void {
    if (this.#state === 'settled') return
    this.#state = 'settled'
    this.#cancelTimer()
    this.#order.signal.removeEventListener('abort', this.#abort)
    if (outcome.kind !== 'done' && outcome.kind !== 'refused') this.#closeUpstream()
    this.#resolve(outcome)
  }
}

/** Headers of an answer that reach the caller; hop-by-hop ones and cookies are the node's own business. */
function passedOn(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const passed: OutgoingHttpHeaders = {}
  for (const name of ['content-type', 'content-length', 'cache-control'] as const) {
    if (headers[name] !== undefined) passed[name] = headers[name]
  }
  return passed
}
