import type { HostMemory, PromptRules } from '../../ollama-model/prompt-cache.ts'
import { charactersPerToken } from './tokens.ts'

/** More would make a lookup cost more than it models. */
const mostTexts = 64
/** llama-server's host memory for evicted prompts (docs/ollama.md#scheduling). */
const hostMiB = 8192

/** Prompts behind sockets are texts: the longest common prefix of two of them needs no computing. */
export const textPrompts: PromptRules<string> = {
  tokensOf: (text) => text.length / charactersPerToken,
  commonTokens: (known, prompt) => Math.floor(commonPrefix(known, prompt) / charactersPerToken),
  continues: (prompt, known) => prompt.startsWith(known),
}

export function hostMemoryOf(kvMiBPer1kCtx: number): HostMemory {
  return { tokens: (hostMiB / Math.max(kvMiBPer1kCtx, 0.001)) * 1000, prompts: mostTexts }
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
