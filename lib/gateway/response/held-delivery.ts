import { noTokens } from '../http/exchange.ts'
import { HeldPieces } from './answer-memory.ts'
import type { UpstreamOutcome } from './outcome.ts'
import type { AnswerHead, Delivery } from './response-writer.ts'

/** An error is a sentence, or a page of a proxy before the node; what is asked of a node for ourselves may be longer. */
const maxErrorBytes = 64 * 1024
const maxAnswerBytes = 1024 * 1024

/** An answer that is for us: an error is read whole before anything is decided, since another node may do better. */
export class HeldDelivery implements Delivery {
  readonly #head: AnswerHead
  readonly #held: HeldPieces
  readonly isFull = false
  readonly onceWritable = () => {}
  readonly committed = false
  readonly tokens = noTokens

  constructor(head: AnswerHead, maxBytes = maxAnswerBytes) {
    this.#head = head
    this.#held = new HeldPieces(head.status >= 400 ? maxErrorBytes : maxBytes)
  }

  take(chunk: Buffer): UpstreamOutcome | null {
    if (this.#held.add(chunk)) return null
    const cause = new Error('the answer is larger than such an answer may be')
    return { kind: 'node-failed', fault: 'bad-response', committed: false, tokens: noTokens, cause }
  }

  finish(): UpstreamOutcome {
    const { status, contentType, headers } = this.#head
    return {
      kind: 'refused',
      status,
      contentType: contentType || 'application/json; charset=utf-8',
      body: this.#held.bytes,
      retryAfterMs: retryAfterMs(headers['retry-after']),
    }
  }

  close(): void {
    this.#held[Symbol.dispose]()
  }
}

/** `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), as milliseconds from now; null when there is none to read. */
function retryAfterMs(value: string | undefined): number | null {
  if (value === undefined) return null
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(ms, 0) : null
}
