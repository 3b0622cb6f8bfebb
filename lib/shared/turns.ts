/** Milliseconds of work in one turn. */
const turnMs = 4

/**
 * Turns of the event loop for long work: one piece of all long work in each turn, so that ten large bodies at once hold up
 * other requests no longer than one does.
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

  /** For work that has begun in the turn of another task. */
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

/** One for the process: it has one event loop. */
export const turns = new Turns()

/** The first item that is found, among items that take long to look at. */
export async function findInTurns<T>(
  items: readonly T[],
  isFound: (item: T) => boolean,
): Promise<T | undefined> {
  let turn = await turns.next()
  for (const item of items) {
    if (turn.isOver) turn = await turns.next()
    if (isFound(item)) return item
  }
  return undefined
}

/** Pauses a socket until its next turn. */
export async function readInTurn(socket: { pause(): unknown; resume(): unknown }): Promise<void> {
  socket.pause()
  await turns.next()
  socket.resume()
}
