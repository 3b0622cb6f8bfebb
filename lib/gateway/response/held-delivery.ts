import { noTokens } from '../http/exchange.ts'
import type { UpstreamOutcome } from './outcome.ts'
import { HeldPieces } from './response-memory.ts'
import type { Delivery, ResponseHead } from './response-writer.ts'

/** Limits of an error, which is a sentence or a page of a proxy, and of a response to llamero itself. */
const maxErrorBytes = 64 * 1024
const maxResponseBytes = 1024 * 1024

/**
 * A response that is read whole before anything is decided: an error, since another node may do better, or a response
 * to llamero itself.
 */
export class HeldDelivery implements Delivery {
  readonly #head: ResponseHead
  readonly #held: HeldPieces
  readonly isFull = false
  readonly onceWritable = () => {}
  readonly committed = false
  readonly tokens = noTokens

  constructor(head: ResponseHead, maxBytes = maxResponseBytes) {
    this.#head = head
    this.#held = new HeldPieces(head.status >= 400 ? maxErrorBytes : maxBytes)
  }

  take(chunk: Buffer): UpstreamOutcome | null {
    if (this.#held.add(chunk)) return null
    const cause = new Error('the response is too large')
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

/**
 * `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), as milliseconds from now; null when absent or unreadable.
 */
function retryAfterMs(value: string | undefined): number | null {
  if (value === undefined) return null
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(ms, 0) : null
}
