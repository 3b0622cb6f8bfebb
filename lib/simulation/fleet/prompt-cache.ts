/** The part of a prompt that may be in a cache already. */
export interface RehearsedPrompt {
  readonly conversation: number
  /** How much of it was there in its conversation before. */
  readonly reusableTokens: number
}

/** What a slot computed last, and still remembers. */
interface Slot {
  busy: boolean
  conversation: number
  tokens: number
  usedAt: number
}

/**
 * The slots of a runner, each of which remembers its last prompt and answer, and the host's memory, which keeps what slots
 * had to forget, the least recently used first to go (docs/routing.md#what-ollama-does).
 */
export class RehearsedPromptCache {
  readonly #slots: readonly Slot[]
  readonly #hostTokens: number
  /** Tokens by conversation, the least recently used first. */
  readonly #host = new Map<number, number>()
  #inHost = 0

  /** @param hostTokens how many tokens the host's memory keeps. */
  constructor(slots: number, hostTokens: number) {
    this.#slots = Array.from({ length: slots }, () => ({
      busy: false,
      conversation: -1,
      tokens: 0,
      usedAt: Number.NEGATIVE_INFINITY,
    }))
    this.#hostTokens = hostTokens
  }

  /** Takes the free slot that remembers most of the prompt, else the one unused for longest; null when all are busy. */
  take(prompt: RehearsedPrompt): { cachedTokens: number; release(tokens: number, at: number): void } | null {
    let best: Slot | null = null
    for (const slot of this.#slots) {
      if (slot.busy) continue
      if (!best || isBetter(slot, best, prompt)) best = slot
    }
    if (!best) return null
    const slot = best
    const cachedTokens = Math.max(remembered(slot, prompt), this.#fromHost(prompt))
    if (slot.conversation !== prompt.conversation) this.#toHost(slot)
    slot.busy = true
    return {
      cachedTokens,
      release(tokens, at) {
        slot.busy = false
        slot.conversation = prompt.conversation
        slot.tokens = tokens
        slot.usedAt = at
      },
    }
  }

  #fromHost({ conversation, reusableTokens }: RehearsedPrompt): number {
    return Math.min(reusableTokens, this.#host.get(conversation) ?? 0)
  }

  #toHost({ conversation, tokens }: Slot): void {
    if (conversation < 0 || tokens > this.#hostTokens) return
    this.#forget(conversation)
    this.#host.set(conversation, tokens)
    this.#inHost += tokens
    for (const oldest of this.#host.keys()) {
      if (this.#inHost <= this.#hostTokens) break
      this.#forget(oldest)
    }
  }

  #forget(conversation: number): void {
    this.#inHost -= this.#host.get(conversation) ?? 0
    this.#host.delete(conversation)
  }
}

function remembered(slot: Slot, { conversation, reusableTokens }: RehearsedPrompt): number {
  return slot.conversation === conversation ? Math.min(reusableTokens, slot.tokens) : 0
}

function isBetter(a: Slot, b: Slot, prompt: RehearsedPrompt): boolean {
  const more = remembered(a, prompt) - remembered(b, prompt)
  return more === 0 ? a.usedAt < b.usedAt : more > 0
}
