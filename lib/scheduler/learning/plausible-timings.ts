import type { Timings } from '../events.ts'

/** What this instance measured of a request, to compare with the timings that its node reports. Seconds. */
export interface Measured {
  /** From sending it to its last byte. */
  readonly totalS: number
  /** From sending it to its first byte, and from there to its last byte; null: the answer came whole. */
  readonly readS: number | null
  readonly writeS: number | null
  /** Its prompt, estimated from the body. */
  readonly promptTokens: number
  /** The caller's limit for output tokens; null: none. */
  readonly maxTokens: number | null
}

/** Tolerance: the node's clock differs, and measures between other points. */
const slackShare = 1.05
const slackS = 0.1
/** Least share of the time between the first and the last byte that was spent writing: chunks may arrive together. */
const leastWriting = 0.5
/** Below this share of the measured time no speed is learned: the request waited on the node, or the timings are wrong. */
const leastExplained = 0.5
const leastReading = 0.25
/** How far the node's token count may exceed the estimate from the body: templates, tools and images add to a prompt. */
const promptTimes = 8
const promptBesides = 4096
/** No runner reads or writes faster, in tokens per second. */
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

/** For an embedding without reported timings: all of its time counts as reading. */
export function embeddingTimings({ totalS, promptTokens }: Measured): Timings {
  const solo = { load: 0, eval: 0, outputTokens: 0 }
  return { ...solo, total: totalS, promptEval: totalS, promptTokens, fromOutside: true }
}
