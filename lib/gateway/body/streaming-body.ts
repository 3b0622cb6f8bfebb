import type { Writable } from 'node:stream'
import type { Config } from '../../fleet/config.ts'
import { orAborted } from '../../shared/abort.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { BodyShare } from './body-budget.ts'
import { BodyBuffer } from './body-buffer.ts'
import { type BodyPace, type IncomingBody, type SlowBodies, slotPace, slowestPace } from './slow-bodies.ts'

/** The body for a node. Bytes, and a streamed body that is still whole, can also be sent to another node. */
export type RequestBody = Buffer | Streamed

/** A body that is sent while it is received. */
export interface Streamed {
  /** Bytes; null when unknown before it is sent. */
  readonly length: number | null
  /** Whether all bytes sent so far are kept. */
  readonly isWhole: boolean
  /** Whether the caller is waited for. */
  readonly isAwaitingCaller: boolean
  /**
   * Sends the body from its beginning. Resolves when all is sent, the node has responded, or `to` was closed.
   *
   * @throws the reason of the exchange's signal.
   */
  sendTo(to: Writable, transfer: Transfer): Promise<void>
}

/** The state of a transfer to a node. */
export interface Transfer {
  /** The node took a piece. */
  progressed(): void
  /** The node has responded: further writes could break the connection that brings its response. */
  readonly isAnswered: boolean
}

/** Bytes that are kept beyond those that had to be read for routing: a small upload can be sent again. */
const keptBytes = 1024 * 1024
/** Bytes of a kept body that are written at once. */
const pieceBytes = 64 * 1024

interface StreamingBodyOptions {
  readonly config: Config
  readonly share: BodyShare
  readonly clock: Clock
  readonly slow: SlowBodies
}

/**
 * Sends a body of any size while it is received, in constant memory: a piece is read from the caller when the node
 * has taken the one before. Reading begins with the first use. It has its own time limits: a caller that pauses for
 * `timeouts.idle_upload`, or is slower than its pace, gets an error.
 */
export class StreamingBody implements Streamed, IncomingBody, Disposable {
  readonly #exchange: Exchange
  readonly #idleMs: number
  readonly #clock: Clock
  /** All bytes from the first on; null after a byte was sent and not kept. */
  #held: BodyBuffer | null
  #mayHold = 0
  /** The announced length, with replacements; null when not announced. */
  #length: number | null
  /** The chunk that is being read; kept for the next reader when the one that asked is gone. */
  #nextChunk: Promise<Buffer | null> | null = null
  #isAwaitingCaller = false
  /** Bytes received. */
  bytes = 0
  pace: BodyPace
  readonly #slow: SlowBodies
  readonly #keepAlive: boolean
  readonly #over = new AbortController()
  readonly #signal: AbortSignal

  constructor(exchange: Exchange, { config, share, clock, slow }: StreamingBodyOptions) {
    const announced = exchange.request.headers['content-length']
    this.#exchange = exchange
    this.#idleMs = config.timeouts.idle_upload
    this.#clock = clock
    this.#held = new BodyBuffer(config.limits, share)
    this.#length = announced === undefined ? null : Number(announced)
    exchange.streamsBody = true
    // The connection cannot be reused before the whole body has come.
    this.#signal = AbortSignal.any([exchange.signal, this.#over.signal])
    this.#keepAlive = exchange.response.shouldKeepAlive
    exchange.response.shouldKeepAlive = false
    this.pace = { ...slowestPace, pauseMs: this.#idleMs }
    this.#slow = slow
    slow.add(this)
    if (exchange.expectsContinue) exchange.response.writeContinue()
  }

  get length(): number | null {
    return this.#length
  }

  get isWhole(): boolean {
    return this.#held !== null
  }

  get isAwaitingCaller(): boolean {
    return this.#isAwaitingCaller
  }

  readonly tooSlow = () =>
    this.#exchange.abort(new ProxyError('body_too_slow', { rate: this.pace.bytesPerS }))

  /**
   * Reads until `find` finds something in the bytes so far, or the body ends.
   *
   * @throws ProxyError `body_too_large`, `bodies_full`, and what `find` throws; the reason of the exchange's signal.
   */
  async readUntil<T>(find: (bytes: Buffer) => T | null): Promise<T | null> {
    const held = this.#heldBytes()
    for (;;) {
      const found = find(held.bytes)
      const chunk = found === null ? await this.#next() : null
      if (chunk === null) return found
      held.add(chunk)
    }
  }

  /**
   * Reads ahead, up to `bytes` in all, the end, or as far as there is room: bytes that are here keep no node waiting.
   * The rest must come at the pace of a slot. @throws the reason of the exchange's signal.
   */
  async readAhead(bytes: number): Promise<void> {
    const held = this.#heldBytes()
    while (held.size < bytes) {
      const chunk = await this.#peek()
      if (chunk === null) return
      if (!held.offer(chunk)) break
      this.#nextChunk = null
    }
    this.pace = slotPace
  }

  /** Replaces bytes that have been read. @throws ProxyError `bodies_full`. */
  replace(start: number, end: number, text: string): void {
    const bytes = Buffer.from(text)
    this.#heldBytes().replace(start, end, bytes)
    if (this.#length !== null) this.#length += bytes.length - (end - start)
  }

  async sendTo(to: Writable, transfer: Transfer): Promise<void> {
    const { length } = this.#heldBytes().bytes
    this.#mayHold ||= length + keptBytes
    for (let sent = 0; !to.destroyed && !transfer.isAnswered; ) {
      const piece = this.#held?.bytes.subarray(sent, sent + pieceBytes) ?? null
      const next = piece?.length ? piece : await this.#pass(to)
      if (next === null) break
      sent += next.length
      // A response that came meanwhile is read before a write can find the connection closed.
      await turn()
      if (transfer.isAnswered) break
      transfer.progressed()
      if (!to.write(next)) await drained(to)
      transfer.progressed()
    }
    if (!to.destroyed && !transfer.isAnswered) to.end()
  }

  /** The next chunk from the caller, kept if there is room; null at the end, or when `to` was closed. */
  async #pass(to: Writable): Promise<Buffer | null> {
    const chunk = await this.#peek()
    if (to.destroyed || chunk === null) return null
    this.#nextChunk = null
    const isKept = (this.#held?.bytes.length ?? 0) + chunk.length <= this.#mayHold && this.#held?.offer(chunk)
    if (!isKept) this.#held?.release()
    if (!isKept) this.#held = null
    return chunk
  }

  async #next(): Promise<Buffer | null> {
    const chunk = await this.#peek()
    if (chunk !== null) this.#nextChunk = null
    return chunk
  }

  #peek(): Promise<Buffer | null> {
    this.#nextChunk ??= this.#read()
    return this.#nextChunk
  }

  /** A chunk as it came; null at the end. */
  async #read(): Promise<Buffer | null> {
    const { request, response } = this.#exchange
    for (;;) {
      this.#signal.throwIfAborted()
      const chunk = request.read() as Buffer | null
      if (chunk !== null) {
        this.bytes += chunk.length
        return chunk
      }
      if (request.readableEnded) break
      await this.#readable()
    }
    if (!response.headersSent) response.shouldKeepAlive = this.#keepAlive
    return null
  }

  /** Resolves when there is something to read, or the body has ended. */
  async #readable(): Promise<void> {
    const { request, abort } = this.#exchange
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = this.#clock.after(this.#idleMs, () => abort(new ProxyError('request_timeout')))
    request.once('readable', resolve).once('end', resolve)
    this.#isAwaitingCaller = true
    try {
      await orAborted(promise, this.#signal)
    } finally {
      this.#isAwaitingCaller = false
      cancel()
      request.off('readable', resolve).off('end', resolve)
    }
  }

  /** The rest of the body is received and dropped. */
  [Symbol.dispose](): void {
    this.#slow.delete(this)
    this.#over.abort()
    this.#exchange.request.removeAllListeners('readable').resume()
  }

  #heldBytes(): BodyBuffer {
    if (this.#held === null) throw new Error('an upload was sent twice, though it is not whole')
    return this.#held
  }
}

/** Whether a body can be sent again from its beginning. */
export function canRepeat(body: RequestBody): boolean {
  return Buffer.isBuffer(body) || body.isWhole
}

/** Resolves after the event loop has polled all connections. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Resolves when `to` can take more, or is closed. */
export function drained(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      to.off('drain', settle).off('close', settle)
      resolve()
    }
    to.on('drain', settle).on('close', settle)
  })
}
