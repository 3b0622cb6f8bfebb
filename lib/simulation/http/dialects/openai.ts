import { goString } from '../json.ts'
import {
  type ErrorStyle,
  eventStreamType,
  type GenerationOutcome,
  type Head,
  jsonType,
  jsonUtf8Type,
  type Writer,
} from './dialect.ts'
import { logprobsJson } from './logprobs.ts'
import { callId } from './native.ts'

const streamType = eventStreamType
const wholeType = jsonType
const done = 'data: [DONE]\n\n'

/** Events of `/v1/chat/completions` (docs/ollama.md#answers). `created` is pinned by the first of them. */
export function chatCompletionWriter(head: Head): Writer {
  const created = pinned(head)
  let role = '"role":"assistant",'
  const open = (object: string, model = head.model) =>
    `{"id":"chatcmpl-${head.id}","object":"${object}","created":${created()},"model":${goString(model)},"system_fingerprint":"fp_ollama",`
  const chunk = (delta: string, finish: string | null = null, model = head.model, extra = '') =>
    event(
      `${open('chat.completion.chunk', model)}"choices":[{"index":0,"delta":{${delta}},"finish_reason":${JSON.stringify(finish)}${extra}}]}`,
    )
  const spoken = (delta: string, extra = '') => {
    const text = chunk(role + delta, null, head.model, extra)
    role = ''
    return text
  }
  const finishOf = ({ answer }: GenerationOutcome) =>
    answer.toolCall && answer.doneReason === 'stop' ? 'tool_calls' : answer.doneReason
  return {
    streamType,
    wholeType,
    piece: ({ text, thinking }) =>
      spoken(
        thinking ? `"content":"","reasoning":${goString(text)}` : `"content":${goString(text)}`,
        logprobsField([text], head),
      ),
    last: (outcome) => {
      const isSilent = role !== '' || outcome.answer.toolCall !== null
      const trailer = isSilent ? spoken(`"content":""${callsOf(outcome, head)}`) : ''
      const usage = head.includeUsage
        ? event(`${open('chat.completion.chunk')}"choices":[],${usageOf(outcome, head)}}`)
        : ''
      return trailer + chunk('', finishOf(outcome)) + usage + done
    },
    whole: (outcome) => {
      const { content, thinking } = outcome.answer
      const reasoning = thinking.length === 0 ? '' : `,"reasoning":${goString(thinking.join(''))}`
      const message = `{"role":"assistant","content":${goString(content.join(''))}${reasoning}${callsOf(outcome, head)}}`
      const extra = logprobsField([...thinking, ...content], head)
      return `${open('chat.completion')}"choices":[{"index":0,"message":${message},"finish_reason":"${finishOf(outcome)}"${extra}}],${usageOf(outcome, head)}}\n`
    },
    // The error is swallowed: Ollama decodes it as an empty chunk and the stream just ends (docs/ollama.md#answers).
    failure: () => chunk('"content":""', null, ''),
    idle: (doneReason, stream) => {
      if (stream) return { type: streamType, text: spoken('"content":""') + chunk('', doneReason) + done }
      const message = '{"role":"assistant","content":""}'
      const text = `${open('chat.completion')}"choices":[{"index":0,"message":${message},"finish_reason":"${doneReason}"}],${noUsage}}\n`
      return { type: wholeType, text }
    },
  }
}

/** Events of `/v1/completions` (docs/ollama.md#answers). With usage asked for, each carries one of zeros. */
export function completionWriter(head: Head): Writer {
  const created = () => seconds(head.date())
  const chunk = (choices: string, model: string, usage: string) =>
    event(
      `{"id":"cmpl-${head.id}","object":"text_completion","created":${created()},"choices":[${choices}],"model":${goString(model)},"system_fingerprint":"fp_ollama"${usage}}`,
    )
  const zeros = head.includeUsage ? `,${noUsage}` : ''
  const whole = (text: string, finish: string, usage: string) =>
    `{"id":"cmpl-${head.id}","object":"text_completion","created":${created()},"model":${goString(head.model)},"system_fingerprint":"fp_ollama","choices":[${choice(text, finish)}],${usage}}\n`
  return {
    streamType,
    wholeType,
    piece: ({ text, thinking }) => chunk(choice(thinking ? '' : text, null), head.model, zeros),
    last: (outcome) => {
      const usage = head.includeUsage ? chunk('', head.model, `,${usageOf(outcome, head)}`) : ''
      return chunk(choice('', outcome.answer.doneReason), head.model, zeros) + usage + done
    },
    whole: (outcome) =>
      whole(outcome.answer.content.join(''), outcome.answer.doneReason, usageOf(outcome, head)),
    failure: () => chunk(choice('', null), '', zeros),
    idle: (doneReason, stream) => {
      if (!stream) return { type: wholeType, text: whole('', doneReason, noUsage) }
      return { type: streamType, text: chunk(choice('', doneReason), head.model, zeros) + done }
    },
  }
}

/** Errors found while the body is read are gin's own, the rest are rewritten by the layer, which ends them with a newline. */
export const openaiErrors: ErrorStyle = {
  early: (status, text) => ({ type: jsonUtf8Type, text: errorBody(status, text) }),
  late: (status, text) => ({ type: jsonType, text: `${errorBody(status, text)}\n` }),
}

function errorBody(status: number, text: string): string {
  const kinds: Readonly<Record<number, string>> = { 400: 'invalid_request_error', 404: 'not_found_error' }
  return `{"error":{"message":${goString(text)},"type":"${kinds[status] ?? 'api_error'}","param":null,"code":null}}`
}

/** The body of `/v1/embeddings`. */
export function embeddingListBody(
  model: string,
  vectors: readonly number[][],
  promptTokens: number,
  base64: boolean,
): string {
  const data = vectors.map((vector, index) => ({
    object: 'embedding',
    embedding: base64 ? Buffer.from(Float32Array.from(vector).buffer).toString('base64') : vector,
    index,
  }))
  const usage = { prompt_tokens: promptTokens, total_tokens: promptTokens }
  return `${JSON.stringify({ object: 'list', data, model, usage })}\n`
}

function choice(text: string, finish: string | null): string {
  return `{"text":${goString(text)},"index":0,"finish_reason":${JSON.stringify(finish)}}`
}

function callsOf({ answer }: GenerationOutcome, head: Head): string {
  const call = answer.toolCall
  if (!call) return ''
  const spoken = { name: call.name, arguments: JSON.stringify(call.arguments) }
  return `,"tool_calls":[${JSON.stringify({ id: callId(call, head), index: 0, type: 'function', function: spoken })}]`
}

const noUsage = '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'

function usageOf({ timings }: GenerationOutcome, { tellsCached }: Head): string {
  const { promptTokens, cachedTokens, tokens } = timings
  const details = tellsCached ? `,"prompt_tokens_details":{"cached_tokens":${cachedTokens}}` : ''
  return `"usage":{"prompt_tokens":${promptTokens},"completion_tokens":${tokens},"total_tokens":${promptTokens + tokens}${details}}`
}

function logprobsField(tokens: readonly string[], { logprobs }: Head): string {
  const json = logprobsJson(tokens, logprobs)
  return json === null ? '' : `,"logprobs":{"content":${json}}`
}

function event(json: string): string {
  return `data: ${json}\n\n`
}

function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}

function pinned(head: Head): () => number {
  let created: number | null = null
  return () => {
    created ??= seconds(head.date())
    return created
  }
}
