import { Writable } from 'node:stream'
import { drained, type Streamed, type StreamingBody, type Transfer } from './streaming-body.ts'

/** A node that takes the upload. */
interface Taker {
  readonly to: Writable
  readonly transfer: Transfer
}

/**
 * One upload for several nodes, read once: each piece goes to all before the next is read, so the slowest sets the pace
 * and memory stays constant. It begins when every branch is played or has left; a node whose connection closes is left out.
 */
export class FanOut {
  readonly branches: readonly Branch[]
  readonly #upload: StreamingBody
  readonly #takers: Taker[] = []
  readonly #awaited: Set<Branch>
  readonly #played = Promise.withResolvers<void>()

  constructor(upload: StreamingBody, count: number) {
    this.#upload = upload
    this.branches = Array.from({ length: count }, () => new Branch(this, upload))
    this.#awaited = new Set(this.branches)
  }

  /** Resolves when all is sent. */
  join(branch: Branch, taker: Taker): Promise<void> {
    this.#takers.push(taker)
    this.leave(branch)
    return this.#played.promise
  }

  /** Nobody waits for this branch any more. */
  leave(branch: Branch): void {
    if (!this.#awaited.delete(branch) || this.#awaited.size > 0 || this.#takers.length === 0) return
    this.#upload.play(this.#all(), this.#transfer()).then(this.#played.resolve, this.#played.reject)
  }

  #transfer(): Transfer {
    const takers = this.#takers
    return {
      moved: () => {},
      get isAnswered() {
        return takers.every(({ transfer }) => transfer.isAnswered)
      },
    }
  }

  /** Every taker as one. It is closed when the last of them is. */
  #all(): Writable {
    const takers = this.#takers
    const all = new Writable({
      highWaterMark: 1,
      write: (piece: Buffer, _encoding, done) => {
        void Promise.all(takers.map((taker) => give(taker, piece))).then(() => done())
      },
      final: (done) => {
        for (const { to, transfer } of takers) if (!transfer.isAnswered) to.end()
        done()
      },
    })
    for (const { to } of takers)
      to.once('close', () => {
        if (takers.every((each) => each.to.destroyed)) all.destroy()
      })
    return all
  }
}

/** What one of the nodes is sent. */
class Branch implements Streamed {
  readonly #tee: FanOut
  readonly #upload: StreamingBody
  /** What the others take is not kept. */
  readonly isWhole = false

  constructor(tee: FanOut, upload: StreamingBody) {
    this.#tee = tee
    this.#upload = upload
  }

  get length(): number | null {
    return this.#upload.length
  }

  get isStarved(): boolean {
    return this.#upload.isStarved
  }

  play(to: Writable, transfer: Transfer): Promise<void> {
    return this.#tee.join(this, { to, transfer })
  }

  /** To be called when the attempt is over: it may never have come to be played. */
  leave(): void {
    this.#tee.leave(this)
  }
}

async function give({ to, transfer }: Taker, piece: Buffer): Promise<void> {
  if (to.destroyed || transfer.isAnswered) return
  transfer.moved()
  if (!to.write(piece)) await drained(to)
  transfer.moved()
}
