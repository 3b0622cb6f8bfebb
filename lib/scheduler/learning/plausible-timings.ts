import type { Timings } from '../events.ts'

/** What this instance measured of a request, beside the timings that its node reports. Seconds. */
export interface Measured {
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

/** The node's clock differs, and its request begins and ends at other moments than ours. */
const slackShare = 1.05
const slackS = 0.1
/** Chunks may come together: of the time between the first and the last byte so much was spent writing. */
const leastWriting = 0.5
/** If the timings explain less of the measured time, no speed is learned: the request waited on the node, or they are wrong. */
const leastExplained = 0.5
const leastReading = 0.25
/** Templates, tools and images add to a prompt: the node may count so much more than was estimated from the body. */
const promptTimes = 8
const promptBesides = 4096
/** No runner reads or writes faster. */
const mostReadPerS = 100_000
const mostWrittenPerS = 2000

/**
 * Limits the timings that a node reports to what this instance measured, so that absurd timings do not make the node look
 * fast or slow for good: no part lasted longer than the request, and writing took about as long as bytes came. The
 * scheduler learns nothing from a 0.
 */
export function plausibleTimings(told: Timings, seen: Measured): Timings {
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

/** At least `leastS`, but 0 stays 0. */
function notFaster(seconds: number, leastS: number): number {
  return seconds > 0 ? Math.max(seconds, leastS) : 0
}

/** For an embedding whose node reports no timings: all of its time is reading. */
export function embeddingTimings({ totalS, promptTokens }: Measured): Timings {
  const solo = { load: 0, eval: 0, outputTokens: 0 }
  return { ...solo, total: totalS, promptEval: totalS, promptTokens, fromOutside: true }
}
