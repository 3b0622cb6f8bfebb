import type { HeldSlot, RunnerSlots } from '../../ollama-model/runner-slots.ts'
import { charactersPerToken } from './tokens.ts'

/** A slot of a runner, held until the lease is disposed of. */
export class SlotLease implements Disposable {
  readonly #slot: HeldSlot<string>
  readonly #release: () => void
  #computed: string

  constructor(slot: HeldSlot<string>, prompt: string) {
    this.#slot = slot
    this.#computed = prompt.slice(0, slot.cachedTokens * charactersPerToken)
    this.#release = once(() => slot.release(this.#computed))
  }

  /** Tokens of the prompt that need no computing. */
  get cachedTokens(): number {
    return this.#slot.cachedTokens
  }

  /** The slot now knows `text`, a prompt and as much of its answer as was computed. */
  computed(text: string): void {
    this.#computed = text
  }

  [Symbol.dispose](): void {
    this.#release()
  }
}

/** Resolves when it is the request's turn. Rejects with the signal's reason when its client leaves the queue first. */
export function enterSlot(
  slots: RunnerSlots<string>,
  prompt: string,
  signal: AbortSignal,
): Promise<SlotLease> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const leave = () => {
      leaveQueue()
      reject(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    const leaveQueue = slots.enter(prompt, (slot) => {
      signal.removeEventListener('abort', leave)
      resolve(new SlotLease(slot, prompt))
    })
  })
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
