import { Writable } from 'node:stream'
import { drained, type Streamed, type StreamingBody, type Transfer } from './streaming-body.ts'

/** A node that takes the upload. */
interface Sink {
  readonly to: Writable
  readonly transfer: Transfer
}

/**
 * One upload for several nodes, read once: each piece goes to all before the next is read, so the slowest sets the pace
 * and memory stays constant. It begins when every branch is played or has left; a node whose connection closes is left out.
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

  /** Resolves when all is sent. */
  join(branch: Branch, sink: Sink): Promise<void> {
    this.#sinks.push(sink)
    this.leave(branch)
    return this.#sent.promise
  }

  /** Nobody waits for this branch any more. */
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

  /** Every taker as one. It is closed when the last of them is. */
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

/** What one of the nodes is sent. */
class Branch implements Streamed {
  readonly #fanOut: FanOut
  readonly #body: StreamingBody
  /** What the others take is not kept. */
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

  /** To be called when the attempt is over: it may never have come to be played. */
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
