import { noTokens } from '../http/exchange.ts'
import type { UpstreamOutcome } from './outcome.ts'
import { type Delivery, type Recipient, ResponseWriter } from './response-writer.ts'

/** An answer of which nothing is known: it goes out as it comes, whatever its status. */
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
