import { charactersPerToken } from './tokens.ts'

/** More would make a lookup cost more than it models. */
const mostTexts = 64
/** llama-server's host memory for evicted prompts (docs/ollama.md#scheduling). */
const cacheMiB = 8192

/**
 * What a runner remembers of earlier prompts and answers, most recent last: the slots' own KV and the copies in host
 * memory. Only the longest common prefix of a prompt with one of them counts.
 */
export class PromptCache {
  #texts: string[] = []
  #characters = 0
  readonly #mostCharacters: number

  constructor(kvMiBPer1kCtx: number) {
    this.#mostCharacters = (cacheMiB / Math.max(kvMiBPer1kCtx, 0.001)) * 1000 * charactersPerToken
  }

  /** Tokens of `prompt` that need no computing. */
  cachedTokens(prompt: string): number {
    const longest = this.#texts.reduce((best, text) => Math.max(best, commonPrefix(text, prompt)), 0)
    return Math.floor(longest / charactersPerToken)
  }

  /** Keeps `text` in place of whatever it continues. */
  remember(text: string): void {
    this.#texts = [...this.#texts.filter((known) => !text.startsWith(known)), text]
    this.#characters = this.#texts.reduce((sum, known) => sum + known.length, 0)
    while (this.#texts.length > mostTexts || this.#characters > this.#mostCharacters) {
      this.#characters -= this.#texts.shift()?.length ?? 0
    }
  }
}

/** Length of the longest common prefix, by halves: comparing slices runs at memory speed. */
function commonPrefix(a: string, b: string): number {
  let low = 0
  let high = Math.min(a.length, b.length)
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (a.slice(low, middle) === b.slice(low, middle)) low = middle
    else high = middle - 1
  }
  return low
}
