import { goJson } from '../json.ts'
import type { Answer } from './answer.ts'
import type { GeneratedPiece, GenerationTimings } from './generation.ts'

/** What every line of one answer repeats. */
export interface Head {
  /** The name as requested. */
  readonly model: string
  /** A number from 0 to 998: the ids of the OpenAI layer are made of it and are not unique (docs/ollama.md#answers). */
  readonly id: number
  readonly includeUsage: boolean
  /** As in `GenerateRequest`. */
  readonly logprobs: number | null
  /** Ollama counts the prompt tokens that were cached since 0.33.3. */
  readonly tellsCached: boolean
  /** Tokens of the prompt. */
  readonly promptTokens: number
  readonly date: () => Date
}

/** A finished generation. Milliseconds. */
export interface GenerationOutcome {
  readonly answer: Answer
  readonly timings: GenerationTimings
  readonly totalMs: number
  readonly loadMs: number
  /** Asked for with `raw`. */
  readonly raw: boolean
}

/** Writes one answer in the words of one endpoint. Each text is written to the socket in one go. */
export interface Writer {
  readonly streamType: string
  readonly wholeType: string
  /** Further headers of a stream. */
  readonly streamHeaders?: Readonly<Record<string, string>>
  /** One token of a stream. */
  piece(piece: GeneratedPiece): string
  /** The end of a stream that finished. */
  last(outcome: GenerationOutcome): string
  /** The whole answer, without streaming. */
  whole(outcome: GenerationOutcome): string
  /** What a client sees of a failure once the stream has begun. */
  failure(text: string): string
  /** The answer to a request that only loads or unloads a model. */
  idle(doneReason: 'load' | 'unload', stream: boolean): Body
}

/** The error bodies of one family of endpoints. */
export interface ErrorStyle {
  /** Refused before the handler ran: the body could not be read. */
  early(status: number, text: string): Body
  /** Refused by the handler. `streamed`: the stream had been promised, though nothing was sent. */
  late(status: number, text: string, streamed: boolean): Body
}

export interface Body {
  readonly type: string
  readonly text: string
}

export const jsonType = 'application/json'
export const jsonUtf8Type = 'application/json; charset=utf-8'

export const eventStreamType = 'text/event-stream'
/** The head of the streams with named events (docs/ollama.md#http). */
export const namedEventHeaders = { 'Cache-Control': 'no-cache', Connection: 'keep-alive' }

/** One named server-sent event, escaped as Go does. */
export function namedEvent(type: string, value: object): string {
  return `event: ${type}\ndata: ${goJson(value)}\n\n`
}

/** RFC 3339 with nanoseconds, UTC. */
export function stamp(date: Date): string {
  return date.toISOString().replace('Z', '000000Z')
}
