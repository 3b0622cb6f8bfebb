import { seededRandom } from '../../../shared/random.ts'

/** Tokens of a prompt: one per 4 characters. */
export function countTokens(text: string): number {
  return Math.ceil(text.length / charactersPerToken)
}

export const charactersPerToken = 4

/** Output pieces, one token each: a word and the space after it. */
export function piecesOf(text: string): string[] {
  return text.match(/\S+\s*|\s+/g) ?? []
}

/** FNV-1a over UTF-16 code units: equal text gives an equal number on every node. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** The embedding of `text`: a unit vector that depends on the text alone, so every node gives the same one. */
export function embeddingOf(text: string, dimensions: number): number[] {
  const random = seededRandom(hashOf(text))
  const vector = Array.from({ length: dimensions }, () => random() * 2 - 1)
  const length = Math.hypot(...vector)
  return vector.map((value) => Math.round((value / length) * 1e8) / 1e8)
}
