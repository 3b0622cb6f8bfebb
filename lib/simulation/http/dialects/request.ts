import { keepAliveMs } from '../engine/fingerprint.ts'
import { Fields, isRecord } from '../json.ts'
import { childError, Refusal, RunnerFailure } from '../refusal.ts'
import { checkBase64, checkImageUrl } from './images.ts'

/** A request to generate, the same for every dialect. */
export interface GenerateRequest {
  /** As the caller wrote it: answers echo it. */
  readonly model: string
  readonly stream: boolean
  readonly includeUsage: boolean
  /** Null when the request does not say. */
  readonly keepAliveMs: number | null
  readonly options: Readonly<Record<string, unknown>>
  readonly shift: boolean
  readonly truncate: boolean
  /** It asks for no answer: the model is only loaded or unloaded. */
  readonly blank: boolean
  /** The text the runner reads, role marks included. */
  readonly prompt: string
  /** What the user said last: the default answer depends on it and on the model alone. */
  readonly question: string
  readonly images: number
  readonly capabilities: readonly string[]
  /** Null when the request does not say. */
  readonly think: boolean | null
  readonly json: boolean
  readonly raw: boolean
  /** How many other tokens are to be named with the likelihood of each; null: no likelihoods are wanted. */
  readonly logprobs: number | null
  /** Why the runner refuses it once the model is loaded; null when it does not. */
  readonly unfit: RunnerFailure | Refusal | null
}

/** The body of `/api/chat`. @throws Refusal 400. */
export function readChat(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'ChatRequest')
  const messages = fields.list('messages').map((message) => nativeMessage(message))
  const tools = fields.list('tools').length > 0
  const native = nativePart(fields)
  const talk = conversation(messages)
  return {
    ...native,
    ...talk,
    unfit: native.unfit ?? talk.unfit,
    capabilities: tools ? ['completion', 'tools'] : ['completion'],
    raw: false,
  }
}

/** The body of `/api/generate`. @throws Refusal 400. */
export function readGenerate(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'GenerateRequest')
  const prompt = fields.text('prompt')
  const raw = fields.flag('raw') ?? false
  const system = fields.text('system')
  if (raw && (system || fields.text('template') || fields.list('context').length > 0)) {
    throw new Refusal(400, 'raw mode does not support template, system, or context')
  }
  return {
    ...nativePart(fields),
    ...plainPrompt(prompt, { raw, system, suffix: fields.text('suffix') }),
    images: imagesIn(fields),
  }
}

/** The body of `/v1/chat/completions`. @throws Refusal 400. */
export function readChatCompletion(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'ChatCompletionRequest')
  const messages = fields.list('messages').flatMap((message) => openaiMessages(message))
  if (fields.list('messages').length === 0) throw new Refusal(400, "[] is too short - 'messages'")
  const tools = fields.list('tools').length > 0
  const effort = fields.record('reasoning')['effort'] ?? fields.text('reasoning_effort')
  return {
    ...openaiPart(fields),
    ...conversation(messages),
    logprobs: fields.flag('logprobs') ? topIn(fields) : null,
    capabilities: tools ? ['completion', 'tools'] : ['completion'],
    think: thinkOfEffort(effort),
    json: ['json_object', 'json_schema'].includes(String(fields.record('response_format')['type'])),
    raw: false,
  }
}

/** The body of `/v1/completions`: a generate request in OpenAI's fields. @throws Refusal 400. */
export function readCompletion(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'CompletionRequest')
  const prompt = fields.text('prompt')
  return {
    ...openaiPart(fields),
    ...plainPrompt(prompt, { raw: false, system: '', suffix: fields.text('suffix') }),
    logprobs: fields.number('logprobs') || null,
    unfit: null,
    think: null,
    json: false,
  }
}

function nativePart(fields: Fields) {
  const think = thinkFrom(fields.raw('think'))
  const format = fields.raw('format')
  return {
    model: fields.text('model'),
    stream: fields.flag('stream') ?? true,
    includeUsage: false,
    keepAliveMs: keepAliveMs(fields.raw('keep_alive')),
    options: fields.record('options'),
    shift: fields.flag('shift') ?? true,
    truncate: fields.flag('truncate') ?? true,
    think,
    json: format !== undefined && format !== '',
    logprobs: fields.flag('logprobs') ? topIn(fields) : null,
    unfit: isFormat(format) ? null : badFormat(format),
  }
}

/** @throws Refusal 400. */
function topIn(fields: Fields): number {
  const top = fields.number('top_logprobs') ?? 0
  if (top < 0 || top > 20) throw new Refusal(400, 'top_logprobs must be between 0 and 20')
  return top
}

const thinkLevels = '"high", "medium", "low", "max", true, or false'

/** @throws Refusal 400 as ThinkValue.UnmarshalJSON says it (ollama: api/types.go). */
function thinkFrom(value: unknown): boolean | null {
  if (value === undefined) return null
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string') throw new Refusal(400, `think must be a boolean or string (${thinkLevels})`)
  if (!['high', 'medium', 'low', 'max'].includes(value))
    throw new Refusal(400, `invalid think value: ${JSON.stringify(value)} (must be ${thinkLevels})`)
  return true
}

/** Only the runner looks at it (ollama: llamaServerChatResponseFormat in llm/llama_server.go). */
function isFormat(format: unknown): boolean {
  return format === undefined || format === '' || format === 'json' || isRecord(format)
}

function badFormat(format: unknown): RunnerFailure {
  const quoted = JSON.stringify(JSON.stringify(format))
  return new RunnerFailure(`invalid format: ${quoted}; expected "json" or a valid JSON Schema object`)
}

function imagesIn(fields: Fields): number {
  const images = fields.list('images')
  for (const image of images) checkBase64(image)
  return images.length
}

function openaiPart(fields: Fields) {
  const stop = fields.raw('stop')
  return {
    model: fields.text('model'),
    stream: fields.flag('stream') ?? false,
    includeUsage: fields.record('stream_options')['include_usage'] === true,
    keepAliveMs: null,
    options: { num_predict: fields.number('max_tokens'), stop: typeof stop === 'string' ? [stop] : stop },
    shift: true,
    truncate: true,
  }
}

export interface Message {
  readonly role: string
  readonly content: string
  readonly images: number
}

function nativeMessage(value: unknown): Message {
  const fields = new Fields(value, 'ChatRequest.messages')
  return {
    role: fields.text('role').toLowerCase(),
    content: fields.text('content'),
    images: imagesIn(fields),
  }
}

/** One message becomes as many as it has parts, as in Ollama's own conversion. */
function openaiMessages(value: unknown): Message[] {
  const fields = new Fields(value, 'ChatCompletionRequest.messages')
  const role = fields.text('role').toLowerCase()
  const content = fields.raw('content')
  if (typeof content === 'string') return [{ role, content, images: 0 }]
  if (Array.isArray(content)) return content.map((part) => contentPart(role, part))
  if (fields.raw('tool_calls') !== undefined) return [{ role, content: '', images: 0 }]
  throw new Refusal(400, 'invalid message content type: <nil>')
}

function contentPart(role: string, part: unknown): Message {
  if (isRecord(part) && part['type'] === 'text' && typeof part['text'] === 'string') {
    return { role, content: part['text'], images: 0 }
  }
  if (isRecord(part) && part['type'] === 'image_url') {
    const { image_url: image } = part
    checkImageUrl(isRecord(image) ? image['url'] : image)
    return { role, content: '', images: 1 }
  }
  throw new Refusal(400, 'invalid message format')
}

/** Role marks before each turn, so that the prompt of the next turn begins with this prompt and its answer. */
export function conversation(messages: readonly Message[]) {
  return {
    blank: messages.length === 0,
    prompt: `${messages.map(({ role, content }) => `<|${role}|>${content}`).join('')}<|assistant|>`,
    question: messages.findLast(({ role }) => role === 'user')?.content ?? '',
    images: messages.reduce((sum, message) => sum + message.images, 0),
    unfit: endsInTwoAnswers(messages) ? twoAnswers() : null,
  }
}

function endsInTwoAnswers(messages: readonly Message[]): boolean {
  return messages.length > 1 && messages.slice(-2).every(({ role }) => role === 'assistant')
}

/** llama.cpp's words: it goes on with one answer that has begun, and with no more. */
function twoAnswers(): Refusal {
  return childError(400, 'Cannot have 2 or more assistant messages at the end of the list.')
}

function plainPrompt(
  prompt: string,
  { raw, system, suffix }: { raw: boolean; system: string; suffix: string },
) {
  const before = system === '' ? '' : `<|system|>${system}`
  return {
    raw,
    blank: prompt === '',
    prompt: raw ? prompt : `${before}<|user|>${prompt}${suffix}<|assistant|>`,
    question: prompt,
    images: 0,
    capabilities: suffix === '' ? ['completion'] : ['completion', 'insert'],
  }
}

const efforts = ['minimal', 'low', 'medium', 'high', 'xhigh', 'ultra', 'max', 'none']

function thinkOfEffort(effort: unknown): boolean | null {
  if (effort === '') return null
  if (typeof effort === 'string' && efforts.includes(effort)) return effort !== 'none'
  const known = efforts.map((name) => `"${name}"`)
  const choice = `${known.slice(0, -1).join(', ')}, or ${known.at(-1)}`
  throw new Refusal(400, `invalid reasoning value: ${JSON.stringify(effort)} (must be ${choice})`)
}
