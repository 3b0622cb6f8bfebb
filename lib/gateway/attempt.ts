import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { Address } from '../shared/address.ts'
import type { Clock } from '../shared/clock.ts'
import { turns } from '../shared/turns.ts'
import { provesUnreachable } from './connect-check.ts'
import { faultOf, flawOf } from './faults.ts'
import type { LeaveReason, Limit, Order } from './order.ts'
import { type Fault, noTokens, type Outcome } from './outcome.ts'
import type { Pulse } from './silence.ts'
import type { Delivery } from './to-caller.ts'
import type { Payload, Streamed } from './upload.ts'
import type { Silent } from './upstream.ts'

/** Pieces of an answer that are taken in a row. A node may write each byte as a chunk of its own: 64 KiB hold 10,000. */
const piecesOfTurn = 500

/** Interim answers (1xx) before the answer. Ollama sends none; a proxy that sends many is heard all the same. */
const maxInformed = 1000

/** Played for http-proxy: the caller's connection, whose state is not its business. */
const open = { destroyed: false }

/** Most answers have begun before a silent node is looked at for the first time; from then on it is in such steps. */
const firstLookMs = 3000
const lookMs = 1000
/**
 * A connection that lived through an outage says so when one of the ends sends again, which they do more and more rarely
 * the longer it lasted. Milliseconds after which a new one is made to the node that is back.
 */
const reviveMs = 3000
/** Servers that do not know the question get the body after as many milliseconds, as curl does it. */
const inviteMs = 1000
/** An idle connection notices an outage within 20 s; one on which something was sent needs more (see `canConnect`). */
const keepAlive = { enable: true, initialDelay: 10_000, interval: 1000, count: 10 }

/**
 * One try at one node. Its state is where it is: waiting for the head of the answer, streaming, paused because the
 * caller reads slowly, or settled. Whatever happens first settles it, closes what is still open towards the node, and
 * later events find it settled.
 *
 * To http-proxy it plays the caller's request (`method`, `url`, `headers`, `pipe`) and the caller's response
 * (`on('close')`, `finished`), so that nothing of the real ones is in its hands.
 */
export class Attempt implements Silent {
  readonly outcome: Promise<Outcome>
  readonly method: string
  readonly url: string
  readonly headers: OutgoingHttpHeaders
  readonly httpVersionMajor = 1
  readonly socket = open
  /** Spares http-proxy a listener at the end of each answer, who would tell nobody. */
  readonly finished = true
  readonly headersSent = true
  readonly writableFinished = false

  readonly #order: Order
  readonly #clock: Clock
  readonly #startedAt: number
  #state: 'waiting' | 'streaming' | 'paused' | 'settled' = 'waiting'
  /** When the current state last made progress: the head or a byte came, or the caller read on. */
  #movedAt: number
  /** When a silent node is looked at next, in monotonic milliseconds. */
  #lookAt: number
  #isOverdue = false
  /** Why it is to be left as soon as another can answer; null: the node may well be working on it. */
  #leaveFor: Exclude<LeaveReason, 'slow'> | null = null
  /** When the node could be reached again, after it was lost; null: it is not. */
  #foundAt: number | null = null
  /** The body that is being passed on; null when the node has all of it. */
  #upload: Streamed | null = null
  #sentAt: number
  #resolve: (outcome: Outcome) => void
  #closeUpstream: () => void = () => {}
  #cancelTimer: () => void = () => {}
  #armedAt = 0
  #request: ClientRequest | null = null
  /** Bytes that came on the connection before it was this attempt's. */
  #readBefore = 0
  #answer: IncomingMessage | null = null
  #delivery: Delivery | null = null
  /** Of the answer, since others had a turn. */
  #pieces = 0

  constructor(order: Order, clock: Clock) {
    this.#order = order
    this.#clock = clock
    this.method = order.method
    this.url = order.upstream.path + order.path
    this.headers = order.asksFirst ? { ...order.headers, expect: '100-continue' } : order.headers
    this.#startedAt = clock.now()
    this.#movedAt = this.#startedAt
    this.#sentAt = this.#startedAt
    this.#lookAt = this.#sentAt + firstLookMs
    const { promise, resolve } = Promise.withResolvers<Outcome>()
    this.outcome = promise
    this.#resolve = resolve
    order.signal.addEventListener('abort', this.#abort, { once: true })
    order.upstream.silent.set(this, this)
    if (order.signal.aborted) this.#abort()
    else this.#arm()
  }

  /** Played for http-proxy: it asks to be told when the caller's connection closes, and then closes its own. */
  on(event: string, listener: () => void): this {
    if (event === 'close') this.#closeUpstream = listener
    if (event === 'close' && this.#state === 'settled') listener()
    return this
  }

  /** Played for http-proxy: the body. The node's time to answer begins when it has all of it. */
  pipe(request: ClientRequest): void {
    this.#request = request
    const { body } = this.#order
    if (Buffer.isBuffer(body) && !this.#order.asksFirst) return void request.end(body)
    if (!Buffer.isBuffer(body)) this.#upload = body
    // http-proxy does not tell of the socket of a request that asks first.
    if (this.#order.asksFirst) request.once('socket', () => this.sending(request))
    void this.#send(request, body)
    if (this.#state === 'waiting') this.#arm()
  }

  /** It fails only when the exchange is over, which has settled this attempt. */
  async #send(request: ClientRequest, body: Payload): Promise<void> {
    const isAnswered = () => this.#state !== 'waiting'
    try {
      if (this.#order.asksFirst) await this.#invited(request)
      if (isAnswered()) return
      if (Buffer.isBuffer(body)) return void request.end(body)
      await body.play(request, {
        moved: () => {
          this.#movedAt = this.#clock.now()
        },
        get isAnswered() {
          return isAnswered()
        },
      })
    } catch {
      return
    }
    // An answer to half of it leaves the rest unsent: see #settle.
    if (isAnswered()) return
    this.#upload = null
    this.#sentAt = this.#clock.now()
    this.#lookAt = this.#sentAt + firstLookMs
  }

  /** Resolves when the node wants the body, has answered without it, is gone, or may know nothing of such questions. */
  #invited(request: ClientRequest): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = this.#clock.after(inviteMs, resolve)
    for (const event of ['continue', 'response', 'close']) request.once(event, resolve)
    return promise.finally(cancel)
  }

  /** The request has its socket. */
  sending(request: ClientRequest): void {
    this.#readBefore = request.socket?.bytesRead ?? 0
    // The agent does so for sockets of its own.
    if (!Buffer.isBuffer(this.#order.body)) request.socket?.setKeepAlive(keepAlive)
    let informed = 0
    request.on('information', () => {
      if (++informed > maxInformed)
        this.#failWith('bad-response', new Error('the node sends interim answers without an end'))
    })
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
    answer.on('error', (error) => this.fail(error))
    const flaw = flawOf(answer)
    if (flaw !== null) {
      this.#failWith('bad-response', new Error(flaw))
      return
    }
    this.#movedAt = this.#clock.now()
    this.#state = 'streaming'
    if (this.#order.pulse) this.#order.pulse.heardAt = this.#movedAt
    this.#order.upstream.silent.delete(this)
    this.#answer = answer
    this.#delivery = this.#order.receive({
      status: answer.statusCode ?? 0,
      contentType: answer.headers['content-type'] ?? '',
      headers: answer.headers,
    })
    if (this.#limit().at < this.#armedAt) this.#arm()
    answer.on('data', (chunk: Buffer) => this.#take(chunk))
    answer.on('end', () => this.#finish())
    answer.on('close', () => {
      // After every good answer as well, and an Error is not free: its stack is captured.
      if (this.#state === 'settled') return
      this.#failWith('broken-off', new Error('the node closed the connection within its answer'))
    })
  }

  /** Whether the kernel has all of the request. */
  get isSent(): boolean {
    return this.#upload === null && this.#request?.writableFinished === true
  }

  get silentSince(): number {
    return this.#sentAt
  }

  get address(): Address | null {
    const { remoteAddress: host, remotePort: port } = this.#request?.socket ?? {}
    return host !== undefined && port !== undefined ? { host, port } : null
  }

  get pulse(): Pulse | null {
    return this.#order.pulse
  }

  get bodyBytes(): number {
    return this.#order.body.length ?? 0
  }

  leave(reason: Exclude<LeaveReason, 'slow'>): void {
    if (this.#state !== 'waiting') return
    if (this.#leaveFor !== 'lost') this.#leaveFor = reason
    if (reason === 'lost') this.#foundAt = null
    this.#look()
  }

  found(): void {
    if (this.#leaveFor === 'lost') this.#foundAt ??= this.#clock.now()
  }

  /** http-proxy or the answer's stream reports an error. */
  fail(error: Error): void {
    if (this.#state === 'settled') return
    if (this.#state !== 'waiting') {
      this.#failWith('broken-off', error)
      return
    }
    const request = this.#request
    const forMs = this.#clock.now() - this.#sentAt
    const heard = (request?.socket?.bytesRead ?? 0) > this.#readBefore
    this.#failWith(faultOf(error, { request, forMs, heard }), error)
    if (provesUnreachable(error)) this.#order.upstream.lost()
  }

  #take(chunk: Buffer): void {
    if (this.#state === 'settled' || !this.#delivery) return
    if (++this.#pieces >= piecesOfTurn) this.#letOthersGo()
    this.#movedAt = this.#clock.now()
    if (this.#order.pulse) this.#order.pulse.heardAt = this.#movedAt
    const outcome = this.#guarded(() => this.#delivery?.take(chunk) ?? null)
    if (outcome) {
      this.#settle(outcome)
      this.#closeUpstream()
    } else if (this.#delivery.isFull) {
      this.#state = 'paused'
      this.#answer?.pause()
      this.#delivery.whenRoom(this.#resume)
    }
  }

  /** Stops reading until the next turn: the pieces of some reads of the socket in a row would hold up everybody else. */
  #letOthersGo(): void {
    this.#pieces = Number.NEGATIVE_INFINITY
    const socket = this.#answer?.socket
    socket?.pause()
    void turns.next().then(() => {
      this.#pieces = 0
      socket?.resume()
    })
  }

  #finish(): void {
    if (this.#state === 'settled' || !this.#delivery) return
    const outcome = this.#guarded(() => this.#delivery?.finish() ?? null)
    if (outcome) this.#settle(outcome)
  }

  /** The node's headers are sent on: one that may not be is the node's fault, and throws. */
  #guarded(pass: () => Outcome | null): Outcome | null {
    try {
      return pass()
    } catch (error) {
      this.#failWith('bad-response', error as Error)
      return null
    }
  }

  readonly #resume = () => {
    if (this.#state !== 'paused') return
    this.#state = 'streaming'
    this.#movedAt = this.#clock.now()
    this.#answer?.resume()
    this.#arm()
  }

  readonly #abort = () => {
    this.#settle({ kind: 'client-gone', reason: 'closed' })
  }

  /** One timer per attempt, set to the nearest limit or sooner: chunks only note the time, they set no timers. */
  #arm(): void {
    this.#cancelTimer()
    this.#armedAt = this.#limit().at
    const ms = Math.max(1, this.#armedAt - this.#clock.now())
    this.#cancelTimer = this.#clock.after(ms, () => this.#check())
  }

  #check(): void {
    const { at, fault } = this.#limit()
    if (this.#clock.now() < at) this.#arm()
    else if (fault === 'look') this.#look()
    else this.#timeOut(fault)
  }

  /** The node is silent. Worth leaving when it takes too long, or is not to be expected to answer, but only for another. */
  #look(): void {
    const { patience } = this.#order
    const now = this.#clock.now()
    const expectedAt = this.#sentAt + patience.expectedMs()
    const isOverdue = now >= expectedAt
    if (isOverdue && !this.#isOverdue) patience.overdue(this.#sentAt)
    // Hearing of it, others may have had it ejected, and this one may have left.
    if (this.#state !== 'waiting') return
    this.#isOverdue ||= isOverdue
    const fault = this.#mayLeave(isOverdue)
    if (fault) {
      this.#timeOut(fault)
      return
    }
    // What is expected changes with what others answer meanwhile.
    const soonest = Math.min(Math.max(expectedAt, now + 1), now + firstLookMs)
    this.#lookAt = isOverdue || this.#leaveFor ? now + lookMs : soonest
    this.#arm()
  }

  #mayLeave(isOverdue: boolean): Fault | null {
    const { patience } = this.#order
    if (this.#leaveFor && patience.mayLeave(this.#leaveFor))
      return this.#leaveFor === 'lost' ? 'node-down' : 'ejected'
    const isBack = this.#foundAt !== null && this.#clock.now() >= this.#foundAt + reviveMs
    if (isBack && patience.mayReturn()) return 'connection-lost'
    return isOverdue && patience.mayLeave('slow') ? patience.overdueFault : null
  }

  #timeOut(fault: Fault): void {
    this.#failWith(fault, new Error(`${fault} after ${Math.round(this.#clock.now() - this.#startedAt)} ms`))
  }

  /** The nearest moment at which this attempt must end, and why. */
  #limit(): Limit {
    const whole: Limit = { at: this.#order.deadlineAt, fault: 'request-timeout' }
    // Whoever reads slowly has a limit of its own: see Delivery.
    if (this.#state === 'paused') return whole
    const step = this.#step()
    return step.at < whole.at ? step : whole
  }

  #step(): Limit {
    const { timeouts, patience } = this.#order
    if (this.#state === 'streaming' || this.#upload) {
      // The caller who is waited for has a limit of its own as well: see Upload.
      const movedAt = this.#upload?.isStarved ? this.#clock.now() : this.#movedAt
      return { at: movedAt + timeouts.between_tokens, fault: 'stalled' }
    }
    const last = this.#sentAt + patience.atMostMs
    return last <= this.#lookAt
      ? { at: last, fault: 'first-token-timeout' }
      : { at: this.#lookAt, fault: 'look' }
  }

  #failWith(fault: Fault, cause: Error): void {
    const { committed = false, tokens = noTokens } = this.#delivery ?? {}
    this.#settle({ kind: 'node-failed', fault, committed, tokens, cause })
  }

  #settle(outcome: Outcome): void {
    if (this.#state === 'settled') return
    this.#state = 'settled'
    this.#delivery?.close()
    this.#cancelTimer()
    this.#order.upstream.silent.delete(this)
    this.#order.signal.removeEventListener('abort', this.#abort)
    const isAnswered = outcome.kind === 'done' || outcome.kind === 'refused'
    // An answer to half an upload is an answer; the rest of it would wait for nobody.
    if (!isAnswered || this.#upload !== null) this.#closeUpstream()
    this.#resolve(outcome)
  }
}
