import type { Timings } from './events.ts'

/** What this instance saw of a request that a node tells times of, in seconds. */
export interface Seen {
  /** From when it was sent until its last byte. */
  readonly totalS: number
  /** From then until its first byte, and from that until its last; null where the answer came whole. */
  readonly readS: number | null
  readonly writeS: number | null
  /** Its prompt, estimated from the body. */
  readonly promptTokens: number
  /** At most so many tokens were asked for; null: no limit was set. */
  readonly maxTokens: number | null
}

/** Clocks differ, and so do the moments at which a request begins there and here. */
const slackShare = 1.05
const slackS = 0.1
/** Chunks may come together: of the time between the first and the last byte so much was spent writing. */
const leastWriting = 0.5
/** Times that explain less of what was seen than this teach no speed: the request waited there, or the times are wrong. */
const leastExplained = 0.5
const leastReading = 0.25
/** Templates, tools and images add to a prompt; estimates are that much too low at most. */
const promptTimes = 8
const promptBesides = 4096
/** No runner reads or writes faster. */
const mostReadPerS = 100_000
const mostWrittenPerS = 2000

/**
 * The times of a node as far as they can be true, so that a node that reports absurd ones does not look fast or slow for
 * good: no part lasted longer than the request did here, and writing took about as long as bytes came. 0 teaches nothing.
 */
export function believed(told: Timings, seen: Seen): Timings {
  const mostS = seen.totalS * slackShare + slackS
  const within = (seconds: number) => Math.min(mostS, Math.max(0, seconds))
  const [load, promptEval] = [within(told.load), within(told.promptEval)]
  const writeS = told.isReadSlowly ? 0 : leastWriting * (seen.writeS ?? 0)
  const decode = Math.max(writeS, within(told.eval))
  const isExplained = told.isReadSlowly || load + promptEval + decode >= leastExplained * seen.totalS
  const isReadExplained = load + promptEval + slackS >= leastReading * (seen.readS ?? 0)
  const promptTokens = Math.min(told.promptTokens, promptTimes * seen.promptTokens + promptBesides)
  return {
    ...told,
    total: within(told.total),
    load,
    promptEval: isExplained && isReadExplained ? notFaster(promptEval, promptTokens / mostReadPerS) : 0,
    eval: isExplained || writeS >= leastReading * seen.totalS ? decode : 0,
    promptTokens,
    outputTokens: Math.min(told.outputTokens, seen.maxTokens ?? Math.ceil(mostWrittenPerS * mostS)),
  }
}

/** None stays none. */
function notFaster(seconds: number, leastS: number): number {
  return seconds > 0 ? Math.max(seconds, leastS) : 0
}

/** Of an embedding that the node tells no times of: reading is all that it does. */
export function seenEmbedding({ totalS, promptTokens }: Seen): Timings {
  const alone = { load: 0, eval: 0, outputTokens: 0 }
  return { ...alone, total: totalS, promptEval: totalS, promptTokens, fromOutside: true }
}
