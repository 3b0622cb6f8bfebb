import { invariant } from '../../ollama-model/invariant.ts'

interface Waiter {
  readonly admit: () => void
}

/**
 * The semaphore of one runner: first come, first served, without a limit on who waits (docs/ollama.md#scheduling). Leaving the
 * queue frees the place at once.
 */
export class Slots {
  readonly #size: number
  readonly #waiting = new Set<Waiter>()
  #active = 0

  constructor(size: number) {
    this.#size = size
  }

  get active(): number {
    return this.#active
  }

  /** Resolves to a slot, given back when disposed of. Rejects with the signal's reason when it aborts first. */
  async enter(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted()
    if (this.#active >= this.#size) await this.#turn(signal)
    else this.#active++
    invariant(this.#active <= this.#size, 'more active requests than slots')
    return { [Symbol.dispose]: once(() => this.#leave()) }
  }

  /** Waits until a leaving request hands its slot over: the count of active ones does not change. */
  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(waiter)
        reject(signal.reason)
      }
      const waiter = {
        admit: () => {
          signal.removeEventListener('abort', leave)
          resolve()
        },
      }
      this.#waiting.add(waiter)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #leave(): void {
    const [next] = this.#waiting
    if (!next) {
      this.#active--
      return
    }
    this.#waiting.delete(next)
    next.admit()
  }
}

/** `task`, done at most once: disposing twice is harmless. */
export function once(task: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    task()
  }
}
