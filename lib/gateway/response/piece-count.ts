/** Pieces of an answer that are taken in a row. A node may write each byte as a chunk of its own: 64 KiB hold 10,000. */
const piecesOfTurn = 500
/**
 * So many pieces within as many milliseconds, of fewer bytes than this on average, are no answer of Ollama: that writes a line,
 * or an event, as one piece, and none is as short. Slower ones hold up no one: a bad line may deliver byte by byte.
 */
const tinyBytes = 32
const tinyMs = 100

/** Counts the pieces of an answer. Most of the price of a piece is the same for one byte as for a kilobyte. */
export class PieceCount {
  #pieces = 0
  #bytes = 0
  #since: number

  constructor(now: number) {
    this.#since = now
  }

  /** What is to be done after this piece: to go on, to let others have a turn (see `turnBegins`), or to give the answer up. */
  add(bytes: number, now: number): 'go-on' | 'pause' | 'give-up' {
    this.#bytes += bytes
    if (++this.#pieces < piecesOfTurn) return 'go-on'
    if (this.#bytes < piecesOfTurn * tinyBytes && now - this.#since < tinyMs) return 'give-up'
    // What has been read already comes in any case.
    this.#pieces = Number.NEGATIVE_INFINITY
    return 'pause'
  }

  turnBegan(now: number): void {
    this.#pieces = 0
    this.#bytes = 0
    this.#since = now
  }
}
