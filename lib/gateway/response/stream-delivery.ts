import type { Timings } from '../../scheduler/events.ts'
import { MergedBytes } from '../../shared/merged-bytes.ts'
import type { TokenUsage } from '../http/exchange.ts'
import { writeChunk } from './chunk.ts'
import type { NodeFailed, UpstreamFault, UpstreamOutcome } from './outcome.ts'
import { type ApiRecipient, type Delivery, type ResponseHead, ResponseWriter } from './response-writer.ts'
import { errorAtStart, type StreamEnd, StreamParser } from './stream-parser.ts'

/** A longer line or event is sent in parts. */
const maxPartialBytes = 64 * 1024
/** Seconds. A shorter generation time says more about our event loop than about the node. */
const leastMeasuredS = 0.25

/**
 * Sends a stream piece by piece, unchanged. A line or an event is sent whole: after half of one, an error would be
 * read as its end. The node's content-length is not passed on, since an error may follow.
 */
export class StreamDelivery extends ResponseWriter implements Delivery {
  readonly #parser: StreamParser
  /** The beginning of an incomplete line or event. */
  readonly #partial = new MergedBytes()
  /** Seconds to the head, which Ollama writes with the first token. */
  readonly #headS: number

  constructor(head: ResponseHead, recipient: ApiRecipient) {
    super(head, recipient)
    this.#headS = recipient.elapsedS()
    this.#parser = new StreamParser(recipient.api, head.contentType)
  }

  get tokens(): TokenUsage {
    return { input: 0, output: this.#parser.events }
  }

  take(chunk: Buffer): UpstreamOutcome | null {
    const ready = this.#upToBoundary(chunk)
    if (!ready) return null
    this.#parser.read(ready)
    return this.#send(ready)
  }

  finish(): UpstreamOutcome {
    const rest = this.#partial.size > 0 ? this.#partial.take() : null
    if (rest) this.#parser.read(rest)
    const end = this.#parser.end()
    if (this.#parser.malformed > 0) this.recipient.malformed(this.#parser.malformed)
    const failure = rest && end.kind !== 'truncated' ? this.#send(rest) : null
    if (failure) return failure
    switch (end.kind) {
      case 'complete':
      case 'lacks-done':
        return this.#end(end)
      case 'error':
        return this.#fail('error-line', end.text)
      case 'truncated':
        return this.#fail('truncated', 'the stream ended before the answer did')
    }
    end satisfies never
  }

  #send(lines: Buffer): UpstreamOutcome | null {
    const { response } = this.recipient
    const bytes = this.renamed(lines)
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

  /** The bytes that can be sent now. An incomplete line waits for its end, unless it is too long. */
  #upToBoundary(chunk: Buffer): Buffer | null {
    const known = this.#partial.size
    if (known === 0 && this.#parser.boundary(chunk) === chunk.length) return chunk
    this.#partial.add(chunk)
    const { bytes } = this.#partial
    const end = this.#parser.boundary(bytes, known)
    if (end === 0 && bytes.length <= maxPartialBytes) return null
    const ready = this.#partial.take()
    if (end === ready.length || ready.length - end > maxPartialBytes) return ready
    this.#partial.add(ready.subarray(end))
    return ready.subarray(0, end)
  }

  #end({ kind, tokens, timings }: Extract<StreamEnd, { tokens: TokenUsage }>): UpstreamOutcome {
    this.recipient.response.end(kind === 'lacks-done' ? 'data: [DONE]\n\n' : undefined)
    const told = timings && this.isSlow ? { ...timings, isReadSlowly: true as const } : timings
    return { kind: 'done', tokens, timings: told ?? this.#measured(tokens) }
  }

  /**
   * Times measured here, when the node counts tokens but sends no times. Null for a slow caller, which does not make
   * the node slow.
   */
  #measured({ input, cached, output }: TokenUsage): Timings | null {
    if (input === 0 || this.isSlow) return null
    const total = this.recipient.elapsedS()
    if (total - this.#headS < leastMeasuredS) return null
    const times = { total, load: 0, promptEval: this.#headS, eval: total - this.#headS }
    const cachedTokens = cached !== undefined && { cachedTokens: cached }
    return { ...times, promptTokens: input, ...cachedTokens, outputTokens: output, fromOutside: true }
  }

  #fail(fault: UpstreamFault, text: string): NodeFailed {
    return {
      kind: 'node-failed',
      fault,
      committed: this.committed,
      tokens: this.tokens,
      cause: new Error(text),
    }
  }
}
