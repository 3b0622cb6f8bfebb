import { invariant } from './invariant.ts'
import { type HostMemory, PromptCache, type PromptRules } from './prompt-cache.ts'

/** A slot that one request holds. */
export interface HeldSlot<Prompt> {
  /** Of the request's prompt, the tokens that need no computing. */
  readonly cachedTokens: number
  /** Gives the slot back. @param known what its KV cache holds now. */
  release(known: Prompt): void
}

interface Slot<Prompt> {
  busy: boolean
  /** Prompt and answer that it computed last; null at first. */
  known: Prompt | null
  /** Number of its last release; 0 at first. */
  releasedAs: number
}

interface Waiter<Prompt> {
  readonly prompt: Prompt
  readonly onSlot: (slot: HeldSlot<Prompt>) => void
}

/**
 * The slots of a runner and the queue for them: first come, first served, without a limit (docs/ollama.md#scheduling). Each
 * slot knows the last prompt that it computed, and a request gets the free slot that knows most of its prompt.
 */
export class RunnerSlots<Prompt> {
  readonly #rules: PromptRules<Prompt>
  readonly #slots: readonly Slot<Prompt>[]
  readonly #host: PromptCache<Prompt>
  readonly #queue = new Set<Waiter<Prompt>>()
  #active = 0
  #releases = 0

  constructor(count: number, rules: PromptRules<Prompt>, hostMemory: HostMemory) {
    this.#rules = rules
    this.#slots = Array.from({ length: count }, () => ({ busy: false, known: null, releasedAs: 0 }))
    this.#host = new PromptCache(rules, hostMemory)
  }

  /** Slots that requests hold. */
  get active(): number {
    return this.#active
  }

  /** Calls `onSlot` when it is the request's turn, at once if a slot is free. Returns how to leave the queue. */
  enter(prompt: Prompt, onSlot: Waiter<Prompt>['onSlot']): () => void {
    const waiter = { prompt, onSlot }
    this.#queue.add(waiter)
    this.#fill()
    return () => {
      this.#queue.delete(waiter)
    }
  }

  #fill(): void {
    for (const waiter of this.#queue) {
      const slot = this.#bestFree(waiter.prompt)
      if (!slot) return
      this.#queue.delete(waiter)
      waiter.onSlot(this.#hold(slot, waiter.prompt))
    }
  }

  /** The free slot that knows most of the prompt, then the one that was released first. */
  #bestFree(prompt: Prompt): Slot<Prompt> | null {
    let best: Slot<Prompt> | null = null
    let most = -1
    for (const slot of this.#slots) {
      if (slot.busy) continue
      const tokens = this.#knownTokens(slot, prompt)
      if (tokens < most || (tokens === most && best && slot.releasedAs >= best.releasedAs)) continue
      best = slot
      most = tokens
    }
    return best
  }

  #hold(slot: Slot<Prompt>, prompt: Prompt): HeldSlot<Prompt> {
    const cachedTokens = Math.max(this.#knownTokens(slot, prompt), this.#host.cachedTokens(prompt))
    const { known } = slot
    if (known !== null && !this.#rules.continues(prompt, known)) this.#host.keep(known)
    slot.busy = true
    this.#active++
    return {
      cachedTokens,
      release: (computed) => {
        invariant(slot.busy, 'a slot was released twice')
        slot.busy = false
        this.#active--
        slot.known = computed
        slot.releasedAs = ++this.#releases
        this.#fill()
      },
    }
  }

  #knownTokens({ known }: Slot<Prompt>, prompt: Prompt): number {
    return known === null ? 0 : this.#rules.commonTokens(known, prompt)
  }
}
