import { hashOf } from '../engine/tokens.ts'
import { goJson } from '../json.ts'
import { vocabularyOf } from './answer.ts'

interface TokenLogprob {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[]
}

/**
 * What Ollama reports of each token with `logprobs` (api/types.go, Logprob): made up, the same on every node, and the token
 * that was taken is the likeliest. @param top how many others are named; null: nothing was asked for.
 */
export function logprobsJson(tokens: readonly string[], top: number | null): string | null {
  if (top === null || tokens.length === 0) return null
  const said = tokens.map((token) => {
    const taken = logprobOf(token, 0)
    const others = vocabularyOf(token, Math.max(0, top - 1)).map((other, nth) => logprobOf(other, nth + 1))
    return top === 0 ? taken : { ...taken, top_logprobs: [taken, ...others] }
  })
  return goJson(said)
}

function logprobOf(token: string, rank: number): TokenLogprob {
  const logprob = -(rank + ((hashOf(token) % 900) + 1) / 1000)
  return { token, logprob, bytes: [...Buffer.from(token)] }
}
