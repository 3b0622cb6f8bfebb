import { noTokens, type Outcome } from './outcome.ts'
import type { AnswerHead, Delivery } from './to-caller.ts'

const maxRefusalBytes = 1024 * 1024

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

/** `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), as milliseconds from now; null when there is none to read. */
function retryAfterMs(value: string | undefined): number | null {
  if (value === undefined) return null
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(ms, 0) : null
}
