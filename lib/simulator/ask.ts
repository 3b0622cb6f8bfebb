import { Fields, isRecord } from './json.ts'
import { keepAliveMs } from './options.ts'
import { Refusal } from './refusal.ts'

/** What a generating request wants, whichever dialect it came in. */
export interface Ask {
  /** As the caller wrote it: answers echo it. */
  readonly model: string
  readonly stream: boolean
  readonly includeUsage: boolean
  /** Null when the request does not say. */
  readonly keepAliveMs: number | null
  readonly options: Readonly<Record<string, unknown>>
  readonly shift: boolean
  readonly truncate: boolean
  /** Nothing to answer: the model is only loaded, or unloaded. */
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
}

/** The body of `/api/chat`. @throws Refusal 400. */
export function readChat(body: unknown): Ask {
  const fields = new Fields(body, 'ChatRequest')
  const messages = fields.list('messages').map((message) => nativeMessage(message))
  const tools = fields.list('tools').length > 0
  return {
    ...nativePart(fields),
    ...conversation(messages),
    capabilities: tools ? ['completion', 'tools'] : ['completion'],
    raw: false,
  }
}

/** The body of `/api/generate`. @throws Refusal 400. */
export function readGenerate(body: unknown): Ask {
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
    images: fields.list('images').length,
  }
}

/** The body of `/v1/chat/completions`. @throws Refusal 400. */
export function readChatCompletion(body: unknown): Ask {
  const fields = new Fields(body, 'ChatCompletionRequest')
  const messages = fields.list('messages').flatMap((message) => openaiMessages(message))
  if (fields.list('messages').length === 0) throw new Refusal(400, "[] is too short - 'messages'")
  const tools = fields.list('tools').length > 0
  const effort = fields.record('reasoning')['effort'] ?? fields.text('reasoning_effort')
  return {
    ...openaiPart(fields),
    ...conversation(messages),
    capabilities: tools ? ['completion', 'tools'] : ['completion'],
    think: thinkOfEffort(effort),
    json: ['json_object', 'json_schema'].includes(String(fields.record('response_format')['type'])),
    raw: false,
  }
}

/** The body of `/v1/completions`: templated, so a generate request in another coat. @throws Refusal 400. */
export function readCompletion(body: unknown): Ask {
  const fields = new Fields(body, 'CompletionRequest')
  const prompt = fields.text('prompt')
  return {
    ...openaiPart(fields),
    ...plainPrompt(prompt, { raw: false, system: '', suffix: fields.text('suffix') }),
    think: null,
    json: false,
  }
}

function nativePart(fields: Fields) {
  const think = fields.raw('think')
  const format = fields.raw('format')
  return {
    model: fields.text('model'),
    stream: fields.flag('stream') ?? true,
    includeUsage: false,
    keepAliveMs: keepAliveMs(fields.raw('keep_alive')),
    options: fields.record('options'),
    shift: fields.flag('shift') ?? true,
    truncate: fields.flag('truncate') ?? true,
    think: think === undefined ? null : think !== false,
    json: format !== undefined && format !== '',
  }
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
    images: fields.list('images').length,
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
  if (isRecord(part) && part['type'] === 'image_url') return { role, content: '', images: 1 }
  throw new Refusal(400, 'invalid message format')
}

/** Role marks before each turn, so that the prompt of the next turn begins with this prompt and its answer. */
export function conversation(messages: readonly Message[]) {
  return {
    blank: messages.length === 0,
    prompt: `${messages.map(({ role, content }) => `<|${role}|>${content}`).join('')}<|assistant|>`,
    question: messages.findLast(({ role }) => role === 'user')?.content ?? '',
    images: messages.reduce((sum, message) => sum + message.images, 0),
  }
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
