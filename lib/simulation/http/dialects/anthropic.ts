import { hashOf } from '../engine/tokens.ts'
import { goJson } from '../json.ts'
import {
  type ErrorStyle,
  eventStreamType,
  type GenerationOutcome,
  type Head,
  jsonType,
  jsonUtf8Type,
  namedEvent,
  namedEventHeaders,
  type Writer,
} from './dialect.ts'
import { callId } from './native.ts'

type BlockKind = 'thinking' | 'text'

/** Events of `/v1/messages` (docs/ollama.md#answers). */
export function messagesWriter(head: Head): Writer {
  const stream = new MessageStream(head)
  return {
    streamType: eventStreamType,
    streamHeaders: namedEventHeaders,
    wholeType: jsonType,
    piece: ({ text, thinking }) =>
      stream.begin() + stream.block(thinking ? 'thinking' : 'text') + stream.delta(text),
    last: (outcome) => stream.begin() + stream.tool(outcome) + stream.end(outcome),
    whole: (outcome) =>
      `${goJson({
        ...messageOf(head, contentOf(outcome, head)),
        stop_reason: stopReasonOf(outcome),
        usage: usageOf(outcome),
      })}\n`,
    // The error is swallowed: no further event, and no message_stop (docs/ollama.md#answers).
    failure: () => '',
    // A request without messages is refused, and none carries a keep_alive: there is nothing to load or unload for.
    idle: (doneReason) => ({
      type: jsonType,
      text: `${goJson({ ...messageOf(head, []), stop_reason: doneReason, usage: noUsage })}\n`,
    }),
  }
}

/** Which block of the message is open, and its number. */
class MessageStream {
  readonly #head: Head
  #open: BlockKind | null = null
  #index = 0
  #begun = false

  constructor(head: Head) {
    this.#head = head
  }

  begin(): string {
    if (this.#begun) return ''
    this.#begun = true
    const usage = { input_tokens: this.#head.promptTokens, output_tokens: 0 }
    return event('message_start', { message: { ...messageOf(this.#head, []), usage } })
  }

  /** Opens a block of that kind, unless it is open already. */
  block(kind: BlockKind): string {
    if (this.#open === kind) return ''
    const closed = this.close()
    this.#open = kind
    const block = kind === 'text' ? { type: kind, text: '' } : { type: kind, thinking: '' }
    return closed + event('content_block_start', { index: this.#index, content_block: block })
  }

  delta(text: string): string {
    const delta =
      this.#open === 'thinking' ? { type: 'thinking_delta', thinking: text } : { type: 'text_delta', text }
    return event('content_block_delta', { index: this.#index, delta })
  }

  close(): string {
    if (!this.#open) return ''
    this.#open = null
    return event('content_block_stop', { index: this.#index++ })
  }

  tool({ answer: { toolCall } }: GenerationOutcome): string {
    if (!toolCall) return ''
    const closed = this.close()
    const block = { type: 'tool_use', id: callId(toolCall, this.#head), name: toolCall.name, input: {} }
    const delta = { type: 'input_json_delta', partial_json: JSON.stringify(toolCall.arguments) }
    const index = this.#index++
    return (
      closed +
      event('content_block_start', { index, content_block: block }) +
      event('content_block_delta', { index, delta }) +
      event('content_block_stop', { index })
    )
  }

  end(outcome: GenerationOutcome): string {
    const delta = { stop_reason: stopReasonOf(outcome) }
    return (
      this.close() + event('message_delta', { delta, usage: usageOf(outcome) }) + event('message_stop', {})
    )
  }
}

/** Both styles are the same, but for the newline of the layer that rewrites the handler's errors. */
export const anthropicErrors: ErrorStyle = {
  early: (status, text) => ({ type: jsonUtf8Type, text: errorBody(status, text) }),
  late: (status, text) => ({ type: jsonType, text: `${errorBody(status, text)}\n` }),
}

const errorTypes: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  503: 'overloaded_error',
  529: 'overloaded_error',
}

function errorBody(status: number, message: string): string {
  const type = errorTypes[status] ?? 'api_error'
  return goJson({ type: 'error', error: { type, message }, request_id: `req_${hex(hashOf(message))}` })
}

function messageOf({ id, model }: Head, content: readonly object[]) {
  return { id: `msg_${hex(id)}`, type: 'message', role: 'assistant', model, content }
}

function contentOf({ answer: { thinking, content, toolCall } }: GenerationOutcome, head: Head): object[] {
  const blocks: object[] = []
  if (thinking.length > 0) blocks.push({ type: 'thinking', thinking: thinking.join('') })
  if (content.length > 0) blocks.push({ type: 'text', text: content.join('') })
  if (toolCall)
    blocks.push({
      type: 'tool_use',
      id: callId(toolCall, head),
      name: toolCall.name,
      input: toolCall.arguments,
    })
  return blocks
}

function stopReasonOf({ answer: { doneReason, toolCall } }: GenerationOutcome): string {
  if (toolCall) return 'tool_use'
  return doneReason === 'length' ? 'max_tokens' : 'end_turn'
}

const noUsage = { input_tokens: 0, output_tokens: 0 }

function usageOf({ timings: { promptTokens, tokens } }: GenerationOutcome) {
  return { input_tokens: promptTokens, output_tokens: tokens }
}

function event(type: string, fields: object): string {
  return namedEvent(type, { type, ...fields })
}

/** Twelve bytes, as in Ollama's ids. */
function hex(value: number): string {
  return value.toString(16).padStart(24, '0')
}
