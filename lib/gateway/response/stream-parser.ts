import type { Api } from '../../fleet/request-spec.ts'
import type { Timings } from '../../scheduler/events.ts'
import { MergedBytes } from '../../shared/merged-bytes.ts'
import type { TokenUsage } from '../http/exchange.ts'
import { asObject, errorText, type Json, parseObject, timingsOf, tokensOf } from './ollama-json.ts'

/** How a stream ended, by its last lines. The timings are the node's own. */
export type StreamEnd =
  | { readonly kind: 'complete'; readonly tokens: TokenUsage; readonly timings: Timings | null }
  /** An OpenAI stream with a finish reason but without `[DONE]`. */
  | { readonly kind: 'lacks-done'; readonly tokens: TokenUsage; readonly timings: null }
  /** The last line is an error, which the caller has read. */
  | { readonly kind: 'error'; readonly text: string }
  | { readonly kind: 'truncated' }

const lineFeed = 0x0a
const carriageReturn = 0x0d
const openBrace = 0x7b
const closeBrace = 0x7d
const maxLineBytes = 1024 * 1024
const data = Buffer.from('data:')
const lineEnd = Buffer.from('\n')
const eventEnd = Buffer.from('\n\n')
const windowsEventEnd = Buffer.from('\r\n\r\n')
const done = '[DONE]'
/** Other fields and comments of an event (WHATWG HTML, server-sent events). */
const otherField = /^(?:event|id|retry)?:|^(?:event|id|retry)$/

/** 1 for first bytes of those: a node may send a million other lines. */
const beginsOther = Uint8Array.from({ length: 256 }, (_, byte) =>
  ':eir'.includes(String.fromCharCode(byte)) ? 1 : 0,
)

/**
 * Reads a stream without changing it, and keeps its last two lines: an error or the line that says "complete" is the
 * last one, so nothing else need be parsed (docs/ollama.md#answers). Per chunk this is a search for line ends and two
 * comparisons.
 */
export class StreamParser {
  readonly #api: Api
  readonly #isSse: boolean
  /** Events so far, about one token each. */
  events = 0
  /** Unreadable lines. They are sent on unchanged. */
  malformed = 0
  /** The unfinished line. Of an endless line only the beginning is kept. */
  readonly #unfinished = new MergedBytes()
  #last: Buffer | null = null
  #beforeLast: Buffer | null = null

  constructor(api: Api, contentType: string) {
    this.#api = api
    this.#isSse = contentType.startsWith('text/event-stream')
  }

  read(chunk: Buffer): void {
    let from = 0
    for (let at = chunk.indexOf(lineFeed); at >= 0; at = chunk.indexOf(lineFeed, from)) {
      // A view costs more than all else where a node sends single bytes.
      if (at > from) this.#line(this.#whole(chunk.subarray(from, at)))
      else if (this.#unfinished.size > 0) this.#line(this.#unfinished.take())
      from = at + 1
    }
    if (from < chunk.length) this.#keep(from === 0 ? chunk : chunk.subarray(from))
  }

  /**
   * The end of the last complete line of `bytes`, or in an event stream of the last complete event; 0 when none ends
   * behind `from`, up to which the bytes were searched before.
   */
  boundary(bytes: Buffer, from = 0): number {
    // Most pieces end with a line or an event.
    const isLine = bytes[bytes.length - 1] === lineFeed
    if (isLine && (!this.#isSse || bytes[bytes.length - 2] === lineFeed) && bytes.length > from)
      return bytes.length
    if (!this.#isSse) return endOf(lineEnd, bytes, from)
    return Math.max(endOf(eventEnd, bytes, from), endOf(windowsEventEnd, bytes, from))
  }

  /** The stream has ended, properly or not. */
  end(): StreamEnd {
    if (this.#unfinished.size > 0) this.#line(this.#unfinished.take())
    const last = this.#last?.toString('utf8').trim() ?? ''
    const before = parseObject(this.#beforeLast?.toString('utf8'))
    if (last === done) return { kind: 'complete', tokens: tokensOf(before, this.events), timings: null }
    const final = parseObject(last) ?? endlessFinal(last)
    if (!final) return { kind: 'truncated' }
    const text = errorText(final)
    if (text !== null) return { kind: 'error', text }
    if (isTerminator(this.#api, final)) {
      return {
        kind: 'complete',
        tokens: tokensOf(this.#api === 'anthropic_messages' ? before : final, this.events),
        timings: timingsOf(final),
      }
    }
    // With include_usage, the chunk after the finish has the counts and no choices.
    const finish = isEmptyArray(final['choices']) ? before : final
    if (hasFinished(finish))
      return { kind: 'lacks-done', tokens: tokensOf(final, this.events), timings: null }
    return { kind: 'truncated' }
  }

  #keep(piece: Buffer): void {
    if (this.#unfinished.size <= maxLineBytes) this.#unfinished.add(piece)
  }

  #whole(end: Buffer): Buffer {
    if (this.#unfinished.size === 0) return end
    this.#unfinished.add(end)
    return this.#unfinished.take()
  }

  #line(raw: Buffer): void {
    const line = raw.at(-1) === carriageReturn ? raw.subarray(0, -1) : raw
    if (line.length === 0) return
    if (!this.#isSse) this.#event(line)
    else if (line[0] === data[0] && line.subarray(0, data.length).equals(data))
      this.#event(line.subarray(data.length))
    else if (beginsOther[line[0] as number] === 0 || !otherField.test(line.toString('latin1', 0, 16)))
      this.malformed++
  }

  #event(payload: Buffer): void {
    this.events++
    this.#beforeLast = this.#last
    this.#last = payload
    const start = payload[0] === 0x20 ? payload[1] : payload[0]
    if (start === openBrace && payload.at(-1) === closeBrace) return
    if (!this.#isSse || payload.toString('latin1').trim() !== done) this.malformed++
  }
}

/** The position behind the last `mark` that ends behind `from`; 0 when there is none. */
function endOf(mark: Buffer, bytes: Buffer, from: number): number {
  const start = Math.max(0, from - mark.length + 1)
  const at = (start > 0 ? bytes.subarray(start) : bytes).lastIndexOf(mark)
  return at < 0 ? 0 : start + at + mark.length
}

/**
 * The text of an error at the start of a stream, or null. Ollama's OpenAI endpoints drop such an error and send a chunk
 * without a model (docs/ollama.md#answers).
 */
export function errorAtStart(chunk: Buffer, contentType: string): string | null {
  const isSse = contentType.startsWith('text/event-stream')
  const lines = chunk.toString('utf8', 0, 64 * 1024).split('\n')
  const line = isSse ? lines.find((each) => each.startsWith('data:'))?.slice(data.length) : lines[0]
  const first = parseObject(line)
  if (!first) return null
  if (isSse && first['model'] === '') return 'the stream began with an empty chunk'
  return errorText(first)
}

/**
 * A line that was too long to keep, such as that of generate with a huge `context`, says at its beginning that it is
 * the last.
 */
function endlessFinal(line: string): Json | null {
  return line.length >= maxLineBytes && line.includes('"done":true,') ? { done: true } : null
}

function isTerminator(api: Api, final: Json): boolean {
  switch (api) {
    case 'anthropic_messages':
      return final['type'] === 'message_stop'
    case 'openai_responses':
      return final['type'] === 'response.completed' || final['type'] === 'response.incomplete'
    default:
      return final['done'] === true
  }
}

function hasFinished(chunk: Json | null): boolean {
  const choices = chunk?.['choices']
  return Array.isArray(choices) && typeof asObject(choices[0])?.['finish_reason'] === 'string'
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}
