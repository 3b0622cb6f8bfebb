import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Api } from '../fleet/ask.ts'
import { errorText, parseObject, tokensOf } from './answer-json.ts'
import { writeChunk } from './chunk.ts'
import { type Fault, type NodeFailed, noTokens, type Outcome, type Tokens } from './outcome.ts'
import { respell, type Spelling } from './respell.ts'
import { type Ending, errorAtStart, StreamTail } from './stream-tail.ts'

/** The head of a node's answer. */
export interface AnswerHead {
  readonly status: number
  readonly contentType: string
  readonly headers: IncomingHttpHeaders
}

/** Takes the body of a node's answer to where it belongs. */
export interface Delivery {
  /** A piece of the body. An outcome ends the attempt there and then. */
  take(chunk: Buffer): Outcome | null
  /** The body ended as HTTP says it should. */
  finish(): Outcome
  /** The caller reads slower than the node writes. */
  readonly isFull: boolean
  /** Calls `resume` once, when the caller can take more. */
  whenRoom(resume: () => void): void
  /** Bytes of the answer have reached the caller. */
  readonly committed: boolean
  /** Tokens that have reached the caller. */
  readonly tokens: Tokens
}

interface Addressee {
  readonly api: Api
  readonly response: ServerResponse
  /** Milliseconds without progress after which a caller who does not read is cut off. */
  readonly idleWriteMs: number
  /** Null where the node answers with the name that the caller wrote: then no byte is changed. */
  readonly spelling: Spelling | null
  /** Sent with the answer, besides what is let through of the node's. */
  readonly responseHeaders: OutgoingHttpHeaders
  /** Lines of a stream that no client can read, told once at its end. */
  readonly malformed: (lines: number) => void
}

/** An answer that is not streamed is held until it is whole, so that another node can still replace it: up to this size. */
const heldBytes = 1024 * 1024
const maxPartialBytes = 64 * 1024
const parsedBytes = 64 * 1024
const maxRefusalBytes = 1024 * 1024

/** The delivery that fits the answer. */
export function deliver(head: AnswerHead, addressee: Addressee): Delivery {
  if (head.status >= 400) return new HeldAnswer(head)
  return isStream(head.contentType) ? new StreamDelivery(head, addressee) : new WholeDelivery(head, addressee)
}

/** Whether an answer of this type comes in pieces that mean something each. */
export function isStream(contentType: string): boolean {
  return contentType.startsWith('application/x-ndjson') || contentType.startsWith('text/event-stream')
}

/** What deliveries to a caller have in common. */
class ToCaller {
  protected readonly head: AnswerHead
  protected readonly addressee: Addressee

  constructor(head: AnswerHead, addressee: Addressee) {
    this.head = head
    this.addressee = addressee
  }

  get isFull(): boolean {
    return this.addressee.response.socket?.writableNeedDrain ?? false
  }

  get committed(): boolean {
    return this.addressee.response.headersSent
  }

  whenRoom(resume: () => void): void {
    const { socket } = this.addressee.response
    // The socket's own limit, since it sees a reader who takes little at a time. Node closes the connection.
    socket?.setTimeout(this.addressee.idleWriteMs)
    socket?.once('drain', () => {
      socket.setTimeout(0)
      resume()
    })
  }

  protected spelled(bytes: Buffer): Buffer {
    const { spelling } = this.addressee
    return spelling ? respell(bytes, spelling) : bytes
  }

  /** Headers of an answer that reach the caller; hop-by-hop ones and cookies are the node's own business. */
  protected commit(length?: number | string): void {
    const { status, headers } = this.head
    const passed: OutgoingHttpHeaders = {}
    for (const name of ['content-type', 'cache-control'] as const) {
      if (headers[name] !== undefined) passed[name] = headers[name]
    }
    if (length !== undefined) passed['content-length'] = length
    this.addressee.response.writeHead(status, { ...passed, ...this.addressee.responseHeaders })
  }
}

/**
 * A stream goes out piece by piece, untouched. A line, or an event, goes out whole: half of one says nothing, and an error
 * after it would be read as its end. The node's length is not passed on: bytes of an error would fill it up.
 */
class StreamDelivery extends ToCaller implements Delivery {
  readonly #tail: StreamTail
  /** The beginning of a line or event whose end has not come. */
  #partial: Buffer | null = null

  constructor(head: AnswerHead, addressee: Addressee) {
    super(head, addressee)
    this.#tail = new StreamTail(addressee.api, head.contentType)
  }

  get tokens(): Tokens {
    return { input: 0, output: this.#tail.events }
  }

  take(chunk: Buffer): Outcome | null {
    const ready = this.#upToBoundary(chunk)
    if (!ready) return null
    this.#tail.read(ready)
    return this.#send(ready)
  }

  finish(): Outcome {
    const rest = this.#partial
    if (rest) this.#tail.read(rest)
    const ending = this.#tail.ending()
    if (this.#tail.malformed > 0) this.addressee.malformed(this.#tail.malformed)
    const failure = rest && ending.kind !== 'truncated' ? this.#send(rest) : null
    if (failure) return failure
    switch (ending.kind) {
      case 'complete':
      case 'lacks-done':
        return this.#end(ending)
      case 'error':
        return this.#fail('error-line', ending.text)
      case 'truncated':
        return this.#fail('truncated', 'the stream ended before the answer did')
    }
    ending satisfies never
  }

  #send(lines: Buffer): Outcome | null {
    const { response } = this.addressee
    const bytes = this.spelled(lines)
    if (this.committed) {
      writeChunk(response, bytes)
      return null
    }
    const text = errorAtStart(bytes, this.head.contentType)
    if (text !== null) return this.#fail('error-line', text)
    this.commit()
    response.write(bytes)
    return null
  }

  /** What may go out now; the rest waits for its end, unless it is too long to wait for. */
  #upToBoundary(chunk: Buffer): Buffer | null {
    const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk
    const end = this.#tail.boundary(bytes)
    if (end === bytes.length || bytes.length - end > maxPartialBytes) {
      this.#partial = null
      return bytes
    }
    this.#partial = bytes.subarray(end)
    return end === 0 ? null : bytes.subarray(0, end)
  }

  #end({ kind, tokens }: Extract<Ending, { tokens: Tokens }>): Outcome {
    this.addressee.response.end(kind === 'lacks-done' ? 'data: [DONE]\n\n' : undefined)
    return { kind: 'done', tokens }
  }

  #fail(fault: Fault, text: string): NodeFailed {
    return {
      kind: 'node-failed',
      fault,
      committed: this.committed,
      tokens: this.tokens,
      cause: new Error(text),
    }
  }
}

/** An answer that makes sense only whole. */
class WholeDelivery extends ToCaller implements Delivery {
  #held: Buffer[] = []
  #bytes = 0
  readonly tokens = noTokens

  take(chunk: Buffer): Outcome | null {
    if (this.committed) {
      this.addressee.response.write(chunk)
      return null
    }
    this.#held.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes > heldBytes) this.#release()
    return null
  }

  finish(): Outcome {
    const { response } = this.addressee
    if (this.committed) {
      response.end()
      return { kind: 'done', tokens: noTokens }
    }
    const body = Buffer.concat(this.#held, this.#bytes)
    const checked = check(this.addressee.api, body)
    if ('fault' in checked) {
      const cause = new Error(checked.text)
      return { kind: 'node-failed', fault: checked.fault, committed: false, tokens: noTokens, cause }
    }
    const spelled = this.spelled(body)
    this.commit(spelled.length)
    response.end(spelled)
    return { kind: 'done', tokens: checked.tokens }
  }

  /** Too large to be held: from here on it is the caller's, and can no longer be replaced. A name further on stays. */
  #release(): void {
    const length = this.head.headers['content-length']
    const begun = Buffer.concat(this.#held, this.#bytes)
    const spelled = this.spelled(begun)
    this.commit(length === undefined ? undefined : Number(length) + spelled.length - begun.length)
    this.addressee.response.write(spelled)
    this.#held = []
  }
}

/** An answer that is for us: an error is read whole before anything is decided, since another node may do better. */
export class HeldAnswer implements Delivery {
  readonly #head: AnswerHead
  readonly #maxBytes: number
  readonly #chunks: Buffer[] = []
  #bytes = 0
  readonly isFull = false
  readonly whenRoom = () => {}
  readonly committed = false
  readonly tokens = noTokens

  constructor(head: AnswerHead, maxBytes = maxRefusalBytes) {
    this.#head = head
    this.#maxBytes = maxBytes
  }

  take(chunk: Buffer): Outcome | null {
    this.#bytes += chunk.length
    this.#chunks.push(chunk)
    if (this.#bytes <= this.#maxBytes) return null
    const cause = new Error('the answer has no end')
    return { kind: 'node-failed', fault: 'bad-response', committed: false, tokens: noTokens, cause }
  }

  finish(): Outcome {
    const { status, contentType, headers } = this.#head
    return {
      kind: 'refused',
      status,
      contentType: contentType || 'application/json; charset=utf-8',
      body: Buffer.concat(this.#chunks),
      retryAfterMs: retryAfterMs(headers['retry-after']),
    }
  }
}

interface Flaw {
  readonly fault: Fault
  readonly text: string
}

/**
 * Whether a whole answer is one: Ollama ends a generation that broke off like any other, but for `done`. Only small ones
 * are parsed: a large one is a list of numbers, and reading it would hold everybody else up.
 */
function check(api: Api, body: Buffer): Flaw | { readonly tokens: Tokens } {
  if (body.length === 0) return { fault: 'truncated', text: 'the answer is empty' }
  if (body.length > parsedBytes) return { tokens: noTokens }
  const answer = parseObject(body.toString('utf8'))
  if (!answer) return { fault: 'truncated', text: 'the answer is no JSON object' }
  const text = errorText(answer)
  if (text !== null) return { fault: 'error-line', text }
  const isGeneration = api === 'ollama_chat' || api === 'ollama_generate'
  if (isGeneration && answer['done'] === false && answer['_debug_info'] === undefined)
    return { fault: 'truncated', text: 'the generation broke off' }
  return { tokens: tokensOf(answer, 0) }
}

/** `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), as milliseconds from now; null when there is none to read. */
function retryAfterMs(value: string | undefined): number | null {
  if (value === undefined) return null
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(ms, 0) : null
}
