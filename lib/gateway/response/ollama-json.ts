import type { Timings } from '../../scheduler/events.ts'
import { isModestJson } from '../../shared/json/json-shape.ts'
import type { TokenUsage } from '../http/exchange.ts'

/** A JSON object in a node's response, in any API (docs/ollama.md#answers). */
export type Json = Readonly<Record<string, unknown>>

/** The largest believed values: no context is longer, and no request takes ten days. */
const mostTokens = 1e7
const mostNs = 1e15

/** A text up to this length is parsed in a millisecond, in any shape. */
const shortLength = 16 * 1024

/** Parses an object; null for any other text, and for one that would block the event loop. */
export function parseObject(text = ''): Json | null {
  if (text.length > shortLength && !isModestJson(text)) return null
  try {
    return asObject(JSON.parse(text))
  } catch {
    return null
  }
}

export function asObject(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null
}

/** The text of an error in any API; null when it is no error. Ollama may nest one as JSON in JSON. */
export function errorText(json: Json): string | null {
  const error = json['error'] ?? asObject(json['response'])?.['error']
  if (error === undefined || error === null) return null
  const text =
    typeof error === 'string' ? error : String(asObject(error)?.['message'] ?? JSON.stringify(error))
  const inner = text.startsWith('{') ? parseObject(text) : null
  return (inner && errorText(inner)) ?? text
}

/** The token counts of a response or of the last line of a stream; `output` is used when it has none. */
export function tokensOf(counts: Json | null, output: number): TokenUsage {
  const usage =
    asObject(counts?.['usage']) ?? asObject(asObject(counts?.['response'])?.['usage']) ?? counts ?? {}
  const details = asObject(usage['prompt_tokens_details']) ?? asObject(usage['input_tokens_details']) ?? {}
  const cached = first(details, ['cached_tokens'], mostTokens)
  return {
    ...(cached !== null && { cached }),
    input: first(usage, ['prompt_eval_count', 'prompt_tokens', 'input_tokens'], mostTokens) ?? 0,
    output: first(usage, ['eval_count', 'completion_tokens', 'output_tokens'], mostTokens) ?? output,
  }
}

/**
 * Ollama's own durations (ns) in a generation or an embedding. Null for a request without a prompt, which only loads
 * or unloads. Time that an embedding, or an older Ollama, does not break down counts as reading the prompt.
 */
export function timingsOf(final: Json): Timings | null {
  const total = first(final, ['total_duration'], mostNs)
  if (total === null) return null
  const promptTokens = first(final, ['prompt_eval_count'], mostTokens) ?? 0
  const embeds = final['eval_count'] === undefined && final['embeddings'] !== undefined && promptTokens > 0
  const evaluation = embeds ? 0 : first(final, ['eval_duration'], mostNs)
  const outputTokens = embeds ? 0 : first(final, ['eval_count'], mostTokens)
  if (evaluation === null || outputTokens === null) return null
  const load = first(final, ['load_duration'], mostNs) ?? 0
  const promptEval = first(final, ['prompt_eval_duration'], mostNs)
  const cachedTokens = first(final, ['prompt_eval_cached_count'], mostTokens)
  return {
    ...(cachedTokens !== null && { cachedTokens }),
    ...(promptEval === null && { fromOutside: true }),
    total: total / 1e9,
    load: load / 1e9,
    promptEval: (promptEval ?? Math.max(0, total - load - evaluation)) / 1e9,
    eval: evaluation / 1e9,
    promptTokens,
    outputTokens,
  }
}

/** The first field with a whole number from 0 to `most`: other values would spoil sums and means. */
function first(counts: Json, names: readonly string[], most: number): number | null {
  for (const name of names) {
    const value = counts[name]
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most) return value as number
  }
  return null
}
