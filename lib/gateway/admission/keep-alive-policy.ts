/** Seconds per unit of a Go duration. */
const units: Readonly<Record<string, number>> = {
  h: 3600,
  m: 60,
  s: 1,
  ms: 1e-3,
  us: 1e-6,
  µs: 1e-6,
  ns: 1e-9,
}
const goDuration = /^[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)$/
/** Some 30 years: for Ollama a longer time is "forever", or wraps around to it. */
const foreverSeconds = 1e9

/**
 * The effect of a `keep_alive`, given as JSON text: `unload` frees the memory right after the request, `forever`
 * never. Ollama takes seconds or a Go duration, and a negative value as forever (api/types.go,
 * Duration.UnmarshalJSON). Any other text is `ordinary`: the node refuses it.
 */
export function effectOf(json: string): 'unload' | 'forever' | 'ordinary' {
  const seconds = json.startsWith('"') ? secondsOf(JSON.parse(json) as string) : Number(json)
  if (seconds < 0 || seconds > foreverSeconds) return 'forever'
  return seconds < 1 ? 'unload' : 'ordinary'
}

/** NaN when the text is no Go duration. */
function secondsOf(text: string): number {
  if (text.length > 100 || !goDuration.test(text)) return Number.NaN
  let seconds = 0
  for (const [, amount, unit] of text.matchAll(/([\d.]+)([a-zµ]+)/g))
    seconds += Number(amount) * (units[unit ?? ''] ?? 0)
  return text.startsWith('-') ? -seconds : seconds
}
