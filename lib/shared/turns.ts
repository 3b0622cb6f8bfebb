/** Milliseconds of work in one turn. */
const turnMs = 4

/**
 * Turns of the event loop for work that is longer than others may wait: one piece of it in each turn, whatever it belongs
 * to, so that ten large bodies at once hold up the others no longer than one.
 */
class Turns {
  readonly #waiting: (() => void)[] = []

  /** Resolves when it is this caller's turn to work, until `Turn.isOver`. */
  next(): Promise<Turn> {
    return new Promise((resolve) => {
      this.#waiting.push(() => resolve(new Turn()))
      if (this.#waiting.length === 1) setImmediate(this.#give)
    })
  }

  /** For work that has begun in the turn of something else. */
  begin(): Turn {
    return new Turn()
  }

  readonly #give = () => {
    this.#waiting.shift()?.()
    if (this.#waiting.length > 0) setImmediate(this.#give)
  }
}

class Turn {
  readonly #endsAt = performance.now() + turnMs

  get isOver(): boolean {
    return performance.now() >= this.#endsAt
  }
}

/** Of this process: it has one event loop. */
export const turns = new Turns()

/** Stops reading a socket until it is its turn. */
export async function readInTurn(socket: { pause(): unknown; resume(): unknown }): Promise<void> {
  socket.pause()
  await turns.next()
  socket.resume()
}
