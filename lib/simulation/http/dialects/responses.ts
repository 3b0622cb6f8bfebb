import { goJson, isRecord } from '../json.ts'
import {
  eventStreamType,
  type GenerationOutcome,
  type Head,
  jsonType,
  namedEvent,
  namedEventHeaders,
  type Writer,
} from './dialect.ts'
import { callId } from './native.ts'

/** Events of `/v1/responses` (docs/ollama.md#answers). The request's own settings are not echoed: every answer shows the defaults. */
export function responsesWriter(head: Head): Writer {
  const stream = new ResponseStream(head)
  return {
    streamType: eventStreamType,
    streamHeaders: namedEventHeaders,
    wholeType: jsonType,
    piece: ({ text, thinking }) =>
      stream.begin() + (thinking ? stream.think(text) : stream.endThinking() + stream.speak(text)),
    last: (outcome) =>
      stream.begin() + stream.endThinking() + stream.endOutput(outcome) + stream.complete(outcome),
    whole: (outcome) => {
      const items = itemsOf(outcome, head, outcome.answer.thinking.join(''), outcome.answer.content.join(''))
      return `${goJson(responseOf(head, 'completed', items, usageOf(outcome)))}\n`
    },
    // The error is swallowed: no further event, and no response.completed (docs/ollama.md#answers).
    failure: () => '',
    idle: () => ({ type: jsonType, text: `${goJson(responseOf(head, 'completed', [], null))}\n` }),
  }
}

/** What has been said so far, and which items of the output are open. */
class ResponseStream {
  readonly #head: Head
  #sequence = 0
  #index = 0
  #thinking = ''
  #isThinking = false
  #text: string | null = null

  constructor(head: Head) {
    this.#head = head
  }

  begin(): string {
    if (this.#sequence > 0) return ''
    const response = responseOf(this.#head, 'in_progress', [], null)
    return this.#event('response.created', { response }) + this.#event('response.in_progress', { response })
  }

  think(delta: string): string {
    const { id } = reasoningItem(this.#head, '')
    let added = ''
    if (!this.#isThinking) {
      this.#isThinking = true
      added = this.#item('added', { id, type: 'reasoning', summary: [] })
    }
    this.#thinking += delta
    return (
      added +
      this.#event('response.reasoning_summary_text.delta', { ...this.#part(id, 'summary_index'), delta })
    )
  }

  endThinking(): string {
    if (!this.#isThinking) return ''
    this.#isThinking = false
    const item = reasoningItem(this.#head, this.#thinking)
    const text = this.#thinking
    const done =
      this.#event('response.reasoning_summary_text.done', { ...this.#part(item.id, 'summary_index'), text }) +
      this.#item('done', item)
    this.#index++
    return done
  }

  speak(delta: string): string {
    const item = messageItem(this.#head, null)
    let added = ''
    if (this.#text === null) {
      this.#text = ''
      added = this.#item('added', item) + this.#contentPart('added', '')
    }
    this.#text += delta
    return (
      added +
      this.#event('response.output_text.delta', {
        ...this.#part(item.id, 'content_index'),
        delta,
        logprobs: [],
      })
    )
  }

  endOutput({ answer: { toolCall } }: GenerationOutcome): string {
    if (toolCall) return this.#call(callItem(toolCall, this.#head))
    if (this.#text === null) return ''
    const item = messageItem(this.#head, this.#text)
    const text = this.#text
    return (
      this.#event('response.output_text.done', {
        ...this.#part(item.id, 'content_index'),
        text,
        logprobs: [],
      }) +
      this.#contentPart('done', text) +
      this.#item('done', item)
    )
  }

  complete(outcome: GenerationOutcome): string {
    const items = itemsOf(outcome, this.#head, this.#thinking, this.#text ?? '')
    const response = responseOf(this.#head, 'completed', items, usageOf(outcome))
    return this.#event('response.completed', { response })
  }

  #call(item: ReturnType<typeof callItem>): string {
    const at = { item_id: item.id, output_index: this.#index }
    return (
      this.#item('added', { ...item, status: 'in_progress', arguments: '' }) +
      this.#event('response.function_call_arguments.delta', { ...at, delta: item.arguments }) +
      this.#event('response.function_call_arguments.done', { ...at, arguments: item.arguments }) +
      this.#item('done', item)
    )
  }

  #item(what: 'added' | 'done', item: object): string {
    return this.#event(`response.output_item.${what}`, { output_index: this.#index, item })
  }

  #contentPart(what: 'added' | 'done', text: string): string {
    const { id } = messageItem(this.#head, null)
    return this.#event(`response.content_part.${what}`, {
      ...this.#part(id, 'content_index'),
      part: outputText(text),
    })
  }

  #part(id: string, index: 'summary_index' | 'content_index') {
    return { item_id: id, output_index: this.#index, [index]: 0 }
  }

  #event(type: string, fields: object): string {
    return namedEvent(type, sorted({ ...fields, type, sequence_number: this.#sequence++ }))
  }
}

function itemsOf(
  { answer: { toolCall } }: GenerationOutcome,
  head: Head,
  thinking: string,
  text: string,
): object[] {
  const reasoning = thinking === '' ? [] : [reasoningItem(head, thinking)]
  return [...reasoning, toolCall ? callItem(toolCall, head) : messageItem(head, text)]
}

function reasoningItem({ id }: Head, text: string) {
  const summary = [{ type: 'summary_text', text }]
  return { id: `rs_${id}`, type: 'reasoning', summary, encrypted_content: text }
}

/** @param text null while it is being said. */
function messageItem({ id }: Head, text: string | null) {
  const status = text === null ? 'in_progress' : 'completed'
  const content = text === null ? [] : [outputText(text)]
  return { id: `msg_${id}`, type: 'message', status, role: 'assistant', content }
}

function callItem(call: NonNullable<GenerationOutcome['answer']['toolCall']>, head: Head) {
  return {
    id: `fc_${head.id}_0`,
    type: 'function_call',
    status: 'completed',
    call_id: callId(call, head),
    name: call.name,
    arguments: JSON.stringify(call.arguments),
  }
}

function outputText(text: string) {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}

function responseOf(
  { id, model, date }: Head,
  status: string,
  output: readonly object[],
  usage: object | null,
) {
  const created = Math.floor(date().getTime() / 1000)
  return {
    id: `resp_${id}`,
    object: 'response',
    created_at: created,
    completed_at: status === 'completed' ? created : null,
    status,
    incomplete_details: null,
    model,
    previous_response_id: null,
    instructions: null,
    output,
    error: null,
    tools: [],
    tool_choice: 'auto',
    truncation: 'disabled',
    parallel_tool_calls: true,
    text: { format: { type: 'text' } },
    top_p: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    top_logprobs: 0,
    temperature: 1,
    reasoning: null,
    usage,
    max_output_tokens: null,
    max_tool_calls: null,
    store: false,
    background: false,
    service_tier: 'default',
    metadata: {},
    safety_identifier: null,
    prompt_cache_key: null,
  }
}

function usageOf({ timings: { promptTokens, tokens } }: GenerationOutcome) {
  return {
    input_tokens: promptTokens,
    output_tokens: tokens,
    total_tokens: promptTokens + tokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens_details: { reasoning_tokens: 0 },
  }
}

/** Streamed events are Go maps, whose keys come out in order; the whole answer is a struct. */
function sorted<T>(value: T): T {
  if (Array.isArray(value)) return value.map((each) => sorted(each)) as T
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  ) as T
}
