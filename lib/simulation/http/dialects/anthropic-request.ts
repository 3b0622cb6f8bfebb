import { Fields } from '../json.ts'
import { Refusal } from '../refusal.ts'
import { checkBase64 } from './images.ts'
import { conversation, type GenerateRequest, type Message } from './request.ts'

/** The body of `/v1/messages` (docs/ollama.md#answers). @throws Refusal 400. */
export function readMessages(body: unknown): GenerateRequest {
  const fields = new Fields(body, 'MessagesRequest')
  const model = fields.text('model')
  const limit = fields.number('max_tokens') ?? 0
  if (model === '') throw new Refusal(400, 'model is required')
  if (limit <= 0) throw new Refusal(400, 'max_tokens is required and must be positive')
  if (fields.list('messages').length === 0) throw new Refusal(400, 'messages is required')
  const messages = fields.list('messages').map((message) => messageOf(message))
  const { type: thinking } = fields.record('thinking')
  return {
    model,
    stream: fields.flag('stream') ?? false,
    includeUsage: false,
    keepAliveMs: null,
    options: { num_predict: limit, stop: fields.list('stop_sequences') },
    shift: true,
    truncate: true,
    ...conversation([...systemOf(fields.raw('system')), ...messages]),
    capabilities: fields.list('tools').length > 0 ? ['completion', 'tools'] : ['completion'],
    think: thinking === 'enabled' ? true : thinking === 'disabled' ? false : null,
    json: false,
    raw: false,
    logprobs: null,
  }
}

function systemOf(system: unknown): Message[] {
  const content = textOf(system)
  return content === '' ? [] : [{ role: 'system', content, images: 0 }]
}

function messageOf(value: unknown): Message {
  const fields = new Fields(value, 'MessagesRequest.messages')
  const content = fields.raw('content')
  return { role: fields.text('role').toLowerCase(), content: textOf(content), images: imagesOf(content) }
}

/** A text, or that of all text blocks of a list. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content.map((block: unknown) => new Fields(block, 'ContentBlock').text('text')).join('')
}

function imagesOf(content: unknown): number {
  if (!Array.isArray(content)) return 0
  const blocks = content.map((block: unknown) => new Fields(block, 'ContentBlock'))
  const images = blocks.filter((block) => block.raw('type') === 'image')
  for (const image of images) checkSource(new Fields(image.record('source'), 'ImageSource'))
  return images.length
}

/** ollama: resolveImageSource in anthropic/anthropic.go. @throws Refusal 400. */
function checkSource(source: Fields): void {
  const type = source.text('type')
  if (type !== 'base64')
    throw new Refusal(400, `invalid image source type: ${type}. Only base64 images are supported.`)
  checkBase64(source.text('data'), (fault) => `invalid base64 image data: ${fault}`)
}
