import { type ServerResponse, STATUS_CODES } from 'node:http'
import { type Body, eventStreamType } from './dialects/dialect.ts'
import type { Pacer } from './engine/pacer.ts'
import type { FaultPlan } from './faults.ts'

const lingerMs = 500

/**
 * Writes an answer to the socket. The headers leave with the first chunk, each chunk is one write, and the faults of the plan
 * strike here.
 */
export class NodeReply {
  readonly #response: ServerResponse
  readonly #plan: FaultPlan
  readonly #pacer: Pacer
  /** Aborts the request's signal, so that the computing of the answer stops. */
  readonly #abort: (reason: Error) => void
  #chunks = 0

  constructor(response: ServerResponse, plan: FaultPlan, pacer: Pacer, abort: (reason: Error) => void) {
    this.#response = response
    this.#plan = plan
    this.#pacer = pacer
    this.#abort = abort
    // Go sends no Connection header on a connection it keeps.
    response.removeHeader('connection')
  }

  /** Whether a byte of the answer has been written. */
  get begun(): boolean {
    return this.#response.headersSent
  }

  /** A complete answer. */
  async whole(
    status: number,
    { type, text }: Body,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    this.open(status, type, headers)
    if (!this.#isCalm) {
      await this.#struck(text)
      this.end()
      return
    }
    this.#response.setHeader('Content-Length', Buffer.byteLength(text))
    this.#response.end(text)
  }

  /**
   * An answer without a body to a request with an unread body. Go closes its side of the connection, and half a second
   * later the other, so that no reset overtakes the answer (net/http, closeWriteAndWait). Node would read the rest.
   */
  async unread(status: number): Promise<void> {
    const { socket } = this.#response
    if (!socket) return
    this.#response.detachSocket(socket)
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`
    await new Promise<void>((resolve) => socket.end(head, resolve))
    setTimeout(() => socket.destroy(), lingerMs).unref()
  }

  /** Sets the head of an answer that follows in chunks; nothing is sent yet. */
  open(status: number, type: string, headers: Readonly<Record<string, string>> = {}): void {
    this.#response.statusCode = status
    if (type) this.#response.setHeader('Content-Type', type)
    for (const [name, value] of Object.entries(headers)) this.#response.setHeader(name, value)
    // Go closes a connection when the client asks for it; the handler cannot prevent that.
    if (!this.#response.shouldKeepAlive) this.#response.removeHeader('Connection')
  }

  /** Writes one chunk. Returns a promise when a slow reader or a fault delays the next chunk. */
  chunk(text: string): Promise<void> | undefined {
    if (!this.#isCalm) return this.#struck(text)
    return this.#response.write(text) ? undefined : this.#drained()
  }

  end(): void {
    this.#response.end()
  }

  get #isCalm(): boolean {
    const { cut, stall, garbage, drip } = this.#plan
    return !cut && !stall && !garbage && !drip
  }

  async #struck(text: string): Promise<void> {
    const { stall, garbage } = this.#plan
    if (stall?.after === this.#chunks) await this.#pacer.wait(stall.ms)
    await this.#cutWhenDue(text)
    if (garbage?.after === this.#chunks) await this.#write(garbageFor(this.#response))
    await this.#write(text)
    this.#chunks++
    await this.#cutWhenDue('')
  }

  async #write(text: string): Promise<void> {
    const { drip } = this.#plan
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length; at += drip?.bytes ?? bytes.length) {
      if (drip && at > 0) await this.#pacer.wait(drip.ms)
      if (!this.#response.write(bytes.subarray(at, at + (drip?.bytes ?? bytes.length)))) await this.#drained()
    }
  }

  #drained(): Promise<void> {
    return this.#pacer.until((done) => {
      this.#response.once('drain', done)
      return () => this.#response.off('drain', done)
    })
  }

  /** Cuts the answer where the plan says so, before or within the chunk `next`, after all that was written has left the process. */
  async #cutWhenDue(next: string): Promise<void> {
    const { cut } = this.#plan
    if (cut?.after !== this.#chunks) return
    if (cut.how === 'reset-in-chunk') {
      if (next === '') return
      await this.#write(next.slice(0, next.length / 2))
    }
    const reason = new Error(`the answer was cut by a fault: ${cut.how}`)
    if (cut.how !== 'reset') this.#response.flushHeaders()
    const { socket } = this.#response
    if (cut.how === 'end') this.#response.end()
    else if (socket) {
      await new Promise<unknown>((resolve) => socket.write('', resolve))
      socket.resetAndDestroy()
    }
    this.#abort(reason)
    throw reason
  }
}

/** A line that ends in the middle of a word, framed as the other lines of the stream. */
function garbageFor(response: ServerResponse): string {
  const line = '{"model":"simul'
  return response.getHeader('Content-Type') === eventStreamType ? `data: ${line}\n\n` : `${line}\n`
}
