/** Pieces of a response that are read in a row. A node may write each byte as a chunk: 64 KiB hold 10,000. */
const piecesOfTurn = 500
/**
 * Pieces with fewer bytes than this on average, 500 of them within so many milliseconds, are no response of Ollama,
 * which writes a line or an event as one piece. Slower ones block nothing: a bad network may deliver byte by byte.
 */
const tinyBytes = 32
const tinyMs = 100

/** Counts the pieces of a response. The cost of a piece is nearly the same for one byte as for a kilobyte. */
export class PieceCount {
  #pieces = 0
  #bytes = 0
  #since: number

  constructor(now: number) {
    this.#since = now
  }

  /** What to do after this piece: go on, pause until the next turn (see `turnBegan`), or give up. */
  add(bytes: number, now: number): 'go-on' | 'pause' | 'give-up' {
    this.#bytes += bytes
    if (++this.#pieces < piecesOfTurn) return 'go-on'
    if (this.#bytes < piecesOfTurn * tinyBytes && now - this.#since < tinyMs) return 'give-up'
    // Pieces that were read already still come.
    this.#pieces = Number.NEGATIVE_INFINITY
    return 'pause'
  }

  turnBegan(now: number): void {
    this.#pieces = 0
    this.#bytes = 0
    this.#since = now
  }
}
