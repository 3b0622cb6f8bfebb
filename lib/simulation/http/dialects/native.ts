import type { ToolCall } from '../disk/model-definition.ts'
import { hashOf } from '../engine/tokens.ts'
import { emptyBodyText, goString } from '../json.ts'
import {
  type ErrorStyle,
  type GenerationOutcome,
  type Head,
  jsonType,
  jsonUtf8Type,
  stamp,
  type Writer,
} from './dialect.ts'
import { logprobsJson } from './logprobs.ts'

const streamType = 'application/x-ndjson'
const wholeType = jsonUtf8Type

/** Lines of `/api/chat` (docs/ollama.md#answers). */
export function chatWriter(head: Head): Writer {
  const open = openLine(head)
  const message = (content: string, thinking = '', calls = '') =>
    `"message":{"role":"assistant","content":${goString(content)}${thinkingField(thinking)}${calls}}`
  return {
    streamType,
    wholeType,
    piece: ({ text, thinking }) =>
      `${open()}${thinking ? message('', text) : message(text)},"done":false${logprobsField([text], head)}}\n`,
    last: (outcome) => `${open()}${message('', '', callsOf(outcome, head))}${end(outcome, head)}}\n`,
    whole: (outcome) => {
      const { content, thinking } = outcome.answer
      const logprobs = logprobsField([...thinking, ...content], head)
      return `${open()}${message(content.join(''), thinking.join(''), callsOf(outcome, head))}${end(outcome, head, logprobs)}}`
    },
    failure: errorLine,
    idle: (doneReason) => ({
      type: wholeType,
      text: `${open()}${message('')},"done":true,"done_reason":"${doneReason}"}`,
    }),
  }
}

/** Lines of `/api/generate` (docs/ollama.md#answers). */
export function generateWriter(head: Head): Writer {
  const open = openLine(head)
  const response = (text: string, thinking = '') => `"response":${goString(text)}${thinkingField(thinking)}`
  return {
    streamType,
    wholeType,
    piece: ({ text, thinking }) =>
      `${open()}${thinking ? response('', text) : response(text)},"done":false${logprobsField([text], head)}}\n`,
    last: (outcome) => `${open()}${response('')}${end(outcome, head, contextOf(outcome))}}\n`,
    whole: (outcome) => {
      const { content, thinking } = outcome.answer
      const extra = contextOf(outcome) + logprobsField([...thinking, ...content], head)
      return `${open()}${response(content.join(''), thinking.join(''))}${end(outcome, head, extra)}}`
    },
    failure: errorLine,
    idle: (doneReason) => ({
      type: wholeType,
      text: `${open()}${response('')},"done":true,"done_reason":"${doneReason}"}`,
    }),
  }
}

export const nativeErrors: ErrorStyle = {
  early: (_status, text) => ({
    type: jsonUtf8Type,
    text: errorBody(text === emptyBodyText ? 'missing request body' : text),
  }),
  late: (_status, text, streamed) => ({ type: streamed ? jsonType : jsonUtf8Type, text: errorBody(text) }),
}

/** The body of `/api/embed`. */
export function embedBody(model: string, vectors: readonly number[][], outcome: EmbedOutcome): string {
  const metrics = fields([
    ['total_duration', nanoseconds(outcome.totalMs)],
    ['load_duration', nanoseconds(outcome.loadMs)],
    ['prompt_eval_count', outcome.promptTokens],
  ])
  return `{"model":${goString(model)},"embeddings":${JSON.stringify(vectors)}${metrics}}`
}

export interface EmbedOutcome {
  readonly totalMs: number
  readonly loadMs: number
  readonly promptTokens: number
}

export function callId(call: ToolCall, head: Head): string {
  return `call_${hashOf(`${head.id} ${call.name}`).toString(16).padStart(8, '0')}`
}

function openLine({ model, date }: Head): () => string {
  const name = goString(model)
  return () => `{"model":${name},"created_at":"${stamp(date())}",`
}

/** Native mode gives tool calls whole, in the line that is done. */
function callsOf({ answer }: GenerationOutcome, head: Head): string {
  const call = answer.toolCall
  if (!call) return ''
  const id = callId(call, head)
  return `,"tool_calls":[${JSON.stringify({ id, function: { index: 0, name: call.name, arguments: call.arguments } })}]`
}

/** @param extra what stands before the counts: the context, and the likelihoods of the tokens. */
function end(
  { answer, timings, totalMs, loadMs }: GenerationOutcome,
  { tellsCached }: Head,
  extra = '',
): string {
  const metrics = fields([
    ['total_duration', nanoseconds(totalMs)],
    ['load_duration', nanoseconds(loadMs)],
    ['prompt_eval_count', timings.promptTokens],
  ])
  // A pointer in Go: zero is written.
  const cached = tellsCached ? `,"prompt_eval_cached_count":${timings.cachedTokens}` : ''
  const evaluation = fields([
    ['prompt_eval_duration', nanoseconds(timings.promptMs)],
    ['eval_count', timings.tokens],
    ['eval_duration', nanoseconds(timings.decodeMs)],
  ])
  return `,"done":true,"done_reason":"${answer.doneReason}"${extra}${metrics}${cached}${evaluation}`
}

/** Numbers that look like a tokenised conversation, one per token; none with `raw`. */
function contextOf({ timings, raw }: GenerationOutcome): string {
  if (raw) return ''
  const length = timings.promptTokens + timings.tokens
  return `,"context":[${Array.from({ length }, (_, index) => (index * 7919) % 128_000).join(',')}]`
}

function logprobsField(tokens: readonly string[], { logprobs }: Head): string {
  const json = logprobsJson(tokens, logprobs)
  return json === null ? '' : `,"logprobs":${json}`
}

/** Go's omitempty: zero is left out. */
function fields(pairs: readonly (readonly [string, number])[]): string {
  return pairs.map(([name, value]) => (value === 0 ? '' : `,"${name}":${value}`)).join('')
}

function nanoseconds(ms: number): number {
  return Math.round(ms * 1e6)
}

function thinkingField(text: string): string {
  return text === '' ? '' : `,"thinking":${goString(text)}`
}

function errorBody(text: string): string {
  return `{"error":${goString(text)}}`
}

function errorLine(text: string): string {
  return `${errorBody(text)}\n`
}
