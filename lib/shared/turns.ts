/**
 * Turns of the event loop for work that is longer than others may wait: one piece of it in each turn, whoever it belongs
 * to, so that ten large bodies at once hold up nobody for longer than one.
 */
class Turns {
  readonly #waiting: (() => void)[] = []

  /** Resolves when it is this caller's turn to work for some milliseconds. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      if (this.#waiting.length === 1) setImmediate(this.#give)
    })
  }

  readonly #give = () => {
    this.#waiting.shift()?.()
    if (this.#waiting.length > 0) setImmediate(this.#give)
  }
}

/** Of this process: it has one event loop. */
export const turns = new Turns()
