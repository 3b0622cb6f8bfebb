import { noTokens } from '../http/exchange.ts'
import type { UpstreamOutcome } from './outcome.ts'
import { type Delivery, type Recipient, ResponseWriter } from './response-writer.ts'

/** Passes a response of an unknown API on as it comes. */
export class PassDelivery extends ResponseWriter<Recipient> implements Delivery {
  readonly tokens = noTokens

  take(chunk: Buffer): UpstreamOutcome | null {
    this.#begin()
    this.recipient.response.write(chunk)
    return null
  }

  finish(): UpstreamOutcome {
    this.#begin()
    this.recipient.response.end()
    return { kind: 'done', tokens: noTokens, timings: null }
  }

  #begin(): void {
    if (!this.committed) this.commit(this.head.headers['content-length'])
  }
}
