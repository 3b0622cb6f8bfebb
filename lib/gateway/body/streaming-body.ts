import type { Writable } from 'node:stream'
import type { Config } from '../../fleet/config.ts'
import { orAborted } from '../../shared/abort.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { BodyShare } from './body-budget.ts'
import { BodyBuffer } from './body-buffer.ts'
import { type BodyPace, type IncomingBody, type SlowBodies, slotPace, slowestPace } from './slow-bodies.ts'

/** What a node is sent. Only bytes, and an upload that is still whole, can be sent to another one as well. */
export type RequestBody = Buffer | Streamed

/** A body that is passed on while it comes. */
export interface Streamed {
  /** Bytes, where it is known before they are sent. */
  readonly length: number | null
  /** Whether all of it that was sent is still here. */
  readonly isWhole: boolean
  /** Whether it is the caller who is waited for. */
  readonly isAwaitingCaller: boolean
  /**
   * Sends it, from its beginning, to a node. Resolves when all is sent, the node has answered, or `to` was closed.
   *
   * @throws the reason of the exchange's signal.
   */
  sendTo(to: Writable, transfer: Transfer): Promise<void>
}

/** How it goes with what is sent to a node. */
export interface Transfer {
  /** The node took something. */
  progressed(): void
  /** The node has answered: what is written now would only break the connection that brings its answer. */
  readonly isAnswered: boolean
}

/** Kept of what passes, beyond what had to be read to know where it goes: the whole of a small upload can be sent again. */
const keptBytes = 1024 * 1024
/** Of what is held, handed over at once. */
const pieceBytes = 64 * 1024

interface StreamingBodyOptions {
  readonly config: Config
  readonly share: BodyShare
  readonly clock: Clock
  readonly slow: SlowBodies
}

/**
 * A body that is passed on while it comes, of any size in constant memory: a piece is read from the caller when the node
 * has taken the one before. It begins to be read when it is first asked for, and has its own limits of time: a caller that
 * pauses for `timeouts.idle_upload`, or is slower than its pace, is told so.
 */
export class StreamingBody implements Streamed, IncomingBody, Disposable {
  readonly #exchange: Exchange
  readonly #idleMs: number
  readonly #clock: Clock
  /** From the first byte on; null once a byte was passed on and not kept. */
  #held: BodyBuffer | null
  #mayHold = 0
  /** What the caller has announced, with what was changed of it; null when it did not. */
  #length: number | null
  /** The piece that is being read; it stays the same for whoever asks next when the one who asked is gone. */
  #nextChunk: Promise<Buffer | null> | null = null
  #isAwaitingCaller = false
  /** Bytes that have come from the caller. */
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
    // Until all of it has come, the connection cannot be used again.
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
   * Reads on until `find` finds something in what came so far, or the body ends.
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
   * Reads on, up to `bytes` in all, its end, or as far as there is room: what is here keeps no node waiting. The rest must
   * come at the pace of a slot. @throws the reason of the exchange's signal.
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

  /** Puts `text` in the place of bytes that have been read. @throws ProxyError `bodies_full`. */
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
      // An answer that came meanwhile is read before a write can find the connection closed.
      await turn()
      if (transfer.isAnswered) break
      transfer.progressed()
      if (!to.write(next)) await drained(to)
      transfer.progressed()
    }
    if (!to.destroyed && !transfer.isAnswered) to.end()
  }

  /** The next piece from the caller, kept if there is room; null at the end, or when `to` was closed in the meantime. */
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

  /** A piece as it came; null at the end. */
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

  /** Resolves when there is something to read, or the end is reached. */
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

  /** Nobody wants the rest: whatever of it still comes is thrown away. */
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

/** Whether it can be sent from its beginning. */
export function canRepeat(body: RequestBody): boolean {
  return Buffer.isBuffer(body) || body.isWhole
}

/** Resolves when the event loop has looked at all connections. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Resolves when `to` takes more, or never will. */
export function drained(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      to.off('drain', settle).off('close', settle)
      resolve()
    }
    to.on('drain', settle).on('close', settle)
  })
}
