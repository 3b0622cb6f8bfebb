import { Writable } from 'node:stream'
import { drained, type Streamed, type StreamingBody, type Transfer } from './streaming-body.ts'

/** A node that receives the body. */
interface Sink {
  readonly to: Writable
  readonly transfer: Transfer
}

/**
 * Sends one body to several nodes and reads it once: each piece is written to all nodes before the next is read, so
 * the slowest node sets the pace and memory stays constant. Begins when every branch is sent or has left; a node
 * with a closed connection is left out.
 */
export class FanOut {
  readonly branches: readonly Branch[]
  readonly #body: StreamingBody
  readonly #sinks: Sink[] = []
  readonly #awaited: Set<Branch>
  readonly #sent = Promise.withResolvers<void>()

  constructor(body: StreamingBody, count: number) {
    this.#body = body
    this.branches = Array.from({ length: count }, () => new Branch(this, body))
    this.#awaited = new Set(this.branches)
  }

  /** Adds a node. Resolves when all is sent. */
  join(branch: Branch, sink: Sink): Promise<void> {
    this.#sinks.push(sink)
    this.leave(branch)
    return this.#sent.promise
  }

  /** The branch will not be sent, or no longer. */
  leave(branch: Branch): void {
    if (!this.#awaited.delete(branch) || this.#awaited.size > 0 || this.#sinks.length === 0) return
    this.#body.sendTo(this.#all(), this.#transfer()).then(this.#sent.resolve, this.#sent.reject)
  }

  #transfer(): Transfer {
    const sinks = this.#sinks
    return {
      progressed: () => {},
      get isAnswered() {
        return sinks.every(({ transfer }) => transfer.isAnswered)
      },
    }
  }

  /** All sinks as one stream. It closes when the last sink closes. */
  #all(): Writable {
    const sinks = this.#sinks
    const all = new Writable({
      highWaterMark: 1,
      write: (piece: Buffer, _encoding, done) => {
        void Promise.all(sinks.map((sink) => write(sink, piece))).then(() => done())
      },
      final: (done) => {
        for (const { to, transfer } of sinks) if (!transfer.isAnswered) to.end()
        done()
      },
    })
    for (const { to } of sinks)
      to.once('close', () => {
        if (sinks.every((each) => each.to.destroyed)) all.destroy()
      })
    return all
  }
}

/** The body for one of the nodes. */
class Branch implements Streamed {
  readonly #fanOut: FanOut
  readonly #body: StreamingBody
  /** Bytes are not kept for a second attempt. */
  readonly isWhole = false

  constructor(fanOut: FanOut, body: StreamingBody) {
    this.#fanOut = fanOut
    this.#body = body
  }

  get length(): number | null {
    return this.#body.length
  }

  get isAwaitingCaller(): boolean {
    return this.#body.isAwaitingCaller
  }

  sendTo(to: Writable, transfer: Transfer): Promise<void> {
    return this.#fanOut.join(this, { to, transfer })
  }

  /** To be called when the attempt is over, since the body may never have been sent. */
  leave(): void {
    this.#fanOut.leave(this)
  }
}

async function write({ to, transfer }: Sink, piece: Buffer): Promise<void> {
  if (to.destroyed || transfer.isAnswered) return
  transfer.progressed()
  if (!to.write(piece)) await drained(to)
  transfer.progressed()
}
