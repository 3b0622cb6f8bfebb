/** Seconds of a Go duration's units. */
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
/** Some 30 years: Ollama has no larger one that is not "forever" or wraps around to it. */
const forever = 1e9

/**
 * Whether a `keep_alive`, by its JSON text, unloads the model from under everybody else, or never lets it go. Ollama takes
 * seconds or a Go duration; negative is forever (sheet ollama-api.md §1.3). What is neither is left for it to refuse.
 */
export function isDrastic(json: string): boolean {
  const seconds = json.startsWith('"') ? secondsOf(JSON.parse(json) as string) : Number(json)
  return seconds !== null && (seconds < 1 || seconds > forever)
}

function secondsOf(text: string): number | null {
  if (text.length > 100 || !goDuration.test(text)) return null
  if (text.startsWith('-')) return -1
  let seconds = 0
  for (const [, amount, unit] of text.matchAll(/([\d.]+)([a-zµ]+)/g))
    seconds += Number(amount) * (units[unit ?? ''] ?? 0)
  return seconds
}
