import type { ServerResponse } from 'node:http'
import type { Body } from './dialect.ts'
import type { Plan } from './faults.ts'
import type { Pacer } from './pacer.ts'

/**
 * The one way an answer reaches the socket: headers leave with the first chunk, each chunk in one write, and the faults of
 * the plan strike here.
 */
export class Reply {
  readonly #response: ServerResponse
  readonly #plan: Plan
  readonly #pacer: Pacer
  /** Ends the request's signal: whoever computes the answer stops. */
  readonly #abort: (reason: Error) => void
  #chunks = 0

  constructor(response: ServerResponse, plan: Plan, pacer: Pacer, abort: (reason: Error) => void) {
    this.#response = response
    this.#plan = plan
    this.#pacer = pacer
    this.#abort = abort
    // Go sends no Connection header on a connection it keeps.
    response.removeHeader('connection')
  }

  /** Whether a byte of the answer is out. */
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

  /** Sets the head of an answer that follows in chunks; nothing is sent yet. */
  open(status: number, type: string, headers: Readonly<Record<string, string>> = {}): void {
    this.#response.statusCode = status
    if (type) this.#response.setHeader('Content-Type', type)
    for (const [name, value] of Object.entries(headers)) this.#response.setHeader(name, value)
  }

  /** Writes one chunk. A promise when the next one has to wait, for a slow reader or a fault. */
  chunk(text: string): Promise<void> | undefined {
    if (!this.#isCalm) return this.#struck(text)
    return this.#response.write(text) ? undefined : this.#drained()
  }

  end(): void {
    this.#response.end()
  }

  get #isCalm(): boolean {
    return !this.#plan.cut && !this.#plan.stall
  }

  async #struck(text: string): Promise<void> {
    const { stall } = this.#plan
    if (stall?.after === this.#chunks) await this.#pacer.wait(stall.ms)
    await this.#cutWhenDue()
    if (!this.#response.write(text)) await this.#drained()
    this.#chunks++
    await this.#cutWhenDue()
  }

  #drained(): Promise<void> {
    return this.#pacer.until((done) => {
      this.#response.once('drain', done)
      return () => this.#response.off('drain', done)
    })
  }

  /** Cuts the answer where the plan says so, once everything written so far has left the process. */
  async #cutWhenDue(): Promise<void> {
    const { cut } = this.#plan
    if (cut?.after !== this.#chunks) return
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
