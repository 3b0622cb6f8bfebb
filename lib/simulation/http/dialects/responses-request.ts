import { Fields } from '../json.ts'
import { Refusal } from '../refusal.ts'
import { checkImageUrl } from './images.ts'
import { conversation, type GenerateRequest, type Message } from './request.ts'

const efforts = ['high', 'medium', 'low', 'max', 'none']

/** The body of `/v1/responses` (docs/ollama.md#answers). @throws Refusal 400. */
export function readResponses(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'ResponsesRequest')
  const instructions = fields.text('instructions')
  const system: Message[] = instructions === '' ? [] : [{ role: 'system', content: instructions, images: 0 }]
  return {
    model: fields.text('model'),
    stream: fields.flag('stream') ?? false,
    includeUsage: false,
    keepAliveMs: null,
    options: { num_predict: fields.number('max_output_tokens') },
    shift: true,
    truncate: true,
    ...conversation([...system, ...inputOf(fields.raw('input'))]),
    capabilities: fields.list('tools').length > 0 ? ['completion', 'tools'] : ['completion'],
    think: thinkOf(fields.record('reasoning')['effort']),
    json: new Fields(fields.record('text'), 'ResponsesText').record('format')['type'] === 'json_schema',
    raw: false,
    logprobs: null,
  }
}

function inputOf(input: unknown): Message[] {
  if (input === undefined || input === '') return []
  if (typeof input === 'string') return [{ role: 'user', content: input, images: 0 }]
  if (!Array.isArray(input)) throw new Refusal(400, 'input must be a string or array')
  return input.map((item: unknown, index) => itemOf(item, index))
}

function itemOf(value: unknown, index: number): Message {
  const fields = new Fields(value, 'ResponsesInputItem')
  const type = fields.text('type') || (fields.text('role') === '' ? '' : 'message')
  switch (type) {
    case 'message':
      return messageOf(fields)
    case 'function_call':
      return { role: 'assistant', content: fields.text('arguments'), images: 0 }
    case 'function_call_output':
      return { role: 'tool', content: fields.text('output'), images: 0 }
    case 'reasoning':
      return { role: 'assistant', content: '', images: 0 }
    case '':
      throw new Refusal(400, `input[${index}]: input item missing required 'type' field`)
    default:
      throw new Refusal(400, `input[${index}]: unknown input item type: ${JSON.stringify(type)}`)
  }
}

function messageOf(fields: Fields): Message {
  const role = fields.text('role')
  const content = fields.raw('content')
  if (typeof content === 'string') return { role, content, images: 0 }
  const parts = fields.list('content').map((part) => new Fields(part, 'ResponsesContent'))
  const images = parts.filter((part) => part.raw('type') === 'input_image')
  for (const image of images) checkImageUrl(image.raw('image_url'))
  return {
    role,
    content: parts.map((part) => part.text('text')).join(''),
    images: images.length,
  }
}

function thinkOf(effort: unknown): boolean | null {
  if (effort === undefined || effort === '') return null
  if (efforts.includes(String(effort))) return effort !== 'none'
  throw new Refusal(
    400,
    `invalid reasoning value: ${JSON.stringify(effort)} (must be "high", "medium", "low", "max", or "none")`,
  )
}
