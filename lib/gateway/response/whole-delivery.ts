import type { Api } from '../../fleet/request-spec.ts'
import type { Timings } from '../../scheduler/events.ts'
import { noTokens, type TokenUsage } from '../http/exchange.ts'
import { errorText, parseObject, timingsOf, tokensOf } from './ollama-json.ts'
import type { UpstreamFault, UpstreamOutcome } from './outcome.ts'
import { HeldPieces } from './response-memory.ts'
import { type Delivery, ResponseWriter } from './response-writer.ts'

/** An unstreamed response up to this size is held until it is complete, so that another node can still replace it. */
const heldBytes = 1024 * 1024
const parsedBytes = 64 * 1024

/** An unstreamed response. */
export class WholeDelivery extends ResponseWriter implements Delivery {
  readonly #held = new HeldPieces(heldBytes)
  readonly tokens = noTokens

  take(chunk: Buffer): UpstreamOutcome | null {
    if (this.committed) {
      this.recipient.response.write(chunk)
      return null
    }
    if (!this.#held.add(chunk)) this.#release(chunk)
    return null
  }

  finish(): UpstreamOutcome {
    const { response } = this.recipient
    if (this.committed) {
      response.end()
      return { kind: 'done', ...unread }
    }
    const body = this.#held.bytes
    const checked = this.#isText ? unread : check(this.recipient.api, body)
    if ('fault' in checked) {
      const cause = new Error(checked.text)
      return { kind: 'node-failed', fault: checked.fault, committed: false, tokens: noTokens, cause }
    }
    const renamed = this.renamed(body)
    this.commit(renamed.length)
    response.end(renamed)
    return { kind: 'done', ...checked }
  }

  override close(): void {
    this.#held[Symbol.dispose]()
  }

  /** A plain-text transcript may have any content, or none. */
  get #isText(): boolean {
    return this.recipient.api === 'openai_transcriptions' && this.head.contentType.startsWith('text/plain')
  }

  /**
   * Too large to be held: it is sent from now on, and no other node can replace it. A model name in later bytes is
   * not changed.
   */
  #release(chunk: Buffer): void {
    const length = this.head.headers['content-length']
    const begun = Buffer.concat([this.#held.bytes, chunk])
    const renamed = this.renamed(begun)
    this.commit(length === undefined ? undefined : Number(length) + renamed.length - begun.length)
    this.recipient.response.write(renamed)
    this.close()
  }
}

interface Reading {
  readonly tokens: TokenUsage
  readonly timings: Timings | null
}

const unread: Reading = { tokens: noTokens, timings: null }

interface Flaw {
  readonly fault: UpstreamFault
  readonly text: string
}

/**
 * Checks a complete response: Ollama ends an aborted generation like any other, except for `done`. Only small bodies
 * are parsed: a large one is a list of numbers, and parsing it would block the event loop.
 */
function check(api: Api, body: Buffer): Flaw | Reading {
  if (body.length === 0) return { fault: 'truncated', text: 'the answer is empty' }
  if (body.length > parsedBytes) return unread
  const answer = parseObject(body.toString('utf8'))
  if (!answer) return { fault: 'truncated', text: 'the answer is no JSON object' }
  const text = errorText(answer)
  if (text !== null) return { fault: 'error-line', text }
  const isGeneration = api === 'ollama_chat' || api === 'ollama_generate'
  if (isGeneration && answer['done'] !== true && answer['_debug_info'] === undefined)
    return { fault: 'truncated', text: 'the generation broke off' }
  return { tokens: tokensOf(answer, 0), timings: timingsOf(answer) }
}
